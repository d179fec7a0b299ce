"""Pretraining of the embedded base on synthetic images: weights free of any data set's terms."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from topolora_hf.adapter_format.presets import get_preset
from topolora_hf.adapters.loading import load_adapter, merge_adapter
from topolora_hf.data.catalog import CATALOG
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.synthetic import KINDS
from topolora_hf.inference.loading import load_network
from topolora_hf.adapter_format.names import TINY_RANDOM
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.settings import option
from topolora_hf.processes import process_state
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.run import train
from topolora_hf.files import replacing_directory

_MAX_STEPS = 3000


@dataclass(kw_only=True)
class PretrainArguments(TrainArguments):
    """Settings of a pretraining; those of a training run, with defaults of their own."""

    dataset: str = option("synthetic", "synthetic images: nothing else is free of others' terms")
    base: str = option(TINY_RANDOM, "what the training starts from")
    detail_base: str | None = option(
        None, "take the detail branch from this base, trained alone; what it takes from SAM starts at zero"
    )
    preset: str = option("whole", "whole: every part; detail_only: the detail branch alone")
    output_dir: str | None = option("runs/pretrain", "the run directory; the base is its folder network/")
    kinds: list[str] = option(
        list(KINDS), "what the pictures show, in their usual proportion; one that is named twice comes twice as often"
    )
    images: int = option(4000, "different pictures drawn for training")
    picture_size: int = option(320, "their side in pixels")
    max_steps: int | None = option(None, f"optimizer steps; by default {_MAX_STEPS}")

    def __post_init__(self):
        if self.epochs is None and self.max_steps is None:
            self.max_steps = _MAX_STEPS
        super().__post_init__()
        if self.dataset != "synthetic":
            raise ValueError(f"a base is pretrained on synthetic images only, got dataset {self.dataset!r}")
        if self.images < 1:
            raise ValueError(f"images must be at least 1, got {self.images}")
        if self.detail_base is not None and not get_preset(self.preset).whole:
            raise ValueError(f"detail_base goes with preset whole, got preset {self.preset!r}")

    def load_base(self, **form) -> TopoSamForSegmentation:
        """The base, with another's detail branch where `detail_base` names one."""
        if self.detail_base is None:
            return super().load_base(**form)
        return join_bases(self.base, self.detail_base, **form)


def pretrain(args: PretrainArguments) -> dict:
    """Trains a base from nothing and writes `network/` in float16, a directory for `--base`; returns the metrics."""
    run = Path(args.output_dir)
    counts = {"train": args.images, "validation": 40, "test": 100}
    spec = replace(CATALOG["synthetic"], counts=counts, image_size=args.picture_size, kinds=tuple(args.kinds))
    metrics = train(args, load_segmentation_data(spec))
    if process_state().is_main_process:
        if get_preset(args.preset).whole:
            network = load_network(str(run / "network"))
        else:
            network = merge_adapter(load_adapter(run / "adapter", base=args.base))
        with replacing_directory(run / "network") as directory:
            network.half().save_pretrained(directory)
    return metrics


@torch.no_grad()
def join_bases(base: str, detail_base: str, **form) -> TopoSamForSegmentation:
    """SAM's part of one base and the detail branch of another, in a form as `from_pretrained` takes it.

    A detail branch trained together with SAM from nothing learns more slowly than one alone, for SAM's first logits are
    noise to it (`bases/tiny/README.md`). So each learns alone first: SAM to give masks, the detail branch without SAM.
    In what this returns SAM's mask is as it was, and what the detail branch takes from SAM starts at zero.

    Raises:
        ValueError: `detail_base` has no detail branch.
    """
    detailed = TopoSamForSegmentation.from_pretrained(detail_base, **form)
    if detailed.detail_branch is None:
        raise ValueError(f"{detail_base} has no detail branch")
    without_branch = {name: value for name, value in form.items() if not name.startswith("detail_")}
    of_sam = TopoSamForSegmentation.from_pretrained(base, **without_branch, detail_channels=0)
    for name in ("detail_channels", "detail_context"):
        setattr(of_sam.config, name, getattr(detailed.config, name))
    network = TopoSamForSegmentation(of_sam.config).eval()
    for source, part in ((of_sam, "sam"), (of_sam, "spatial_adapter"), (detailed, "detail_branch")):
        network.get_submodule(part).load_state_dict(source.get_submodule(part).state_dict())
    for layer in (network.detail_branch.fuse, network.detail_branch.fuse_context):
        for parameter in layer.parameters():
            parameter.zero_()
    return network
