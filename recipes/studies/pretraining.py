"""Pretraining of a small base on synthetic images: weights that are free of any data set's terms."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from topolora_hf.adapter_format.names import TINY_RANDOM
from topolora_hf.adapter_format.presets import get_preset
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import unfreeze
from topolora_hf.data.catalog import CATALOG, DatasetSpec
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.files import replacing_directory
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.processes import process_state
from topolora_hf.settings import option
from topolora_hf.synthetic import ALL_KINDS, KINDS
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.classes import TaskClasses
from topolora_hf.training.run import train
from topolora_hf.training.setup import task_settings

_PRESETS = ("full", "detail_only")


@dataclass(kw_only=True)
class PretrainArguments(TrainArguments):
    """Pretrain a base. The settings are those of a training run, with defaults of their own."""

    dataset: str = option(
        "synthetic", "synthetic images: nothing else is free of others' terms", choices=("synthetic",)
    )
    base: str = option(TINY_RANDOM, "the training starts from this base", group="network")
    preset: str | None = option(
        "full", "full: every part; detail_only: the detail branch alone", group="network", choices=_PRESETS
    )
    detail_base: str | None = option(
        None,
        "take the detail branch from this base, where it was trained alone; its inputs from SAM start at zero",
        group="network",
    )
    detail_channels: int | None = option(
        None, "width of the detail branch, 0 for none; by default the base's", group="network", at_least=0
    )
    detail_context: bool | None = option(
        None, "dilated blocks in the detail branch; by default the base's", group="network"
    )
    sam_dropout: float = option(
        0.0,
        "share of a batch's tiles that the detail branch segments without SAM",
        group="training",
        at_least=0,
        below=1,
    )
    freeze_sam: bool = option(False, "with preset full: train the detail branch alone, beside SAM", group="training")
    max_steps: int | None = option(3000, "optimizer steps", group="training", at_least=1)
    output_dir: str | None = option("runs/pretrain", "the run directory; the base is its folder network/")
    kinds: list[str] = option(
        list(KINDS), "what the pictures show; a kind that is named twice comes twice as often", choices=ALL_KINDS
    )
    images: int = option(4000, "different pictures drawn for training", at_least=1)
    picture_size: int = option(320, "their side in pixels", at_least=1)

    def __post_init__(self):
        super().__post_init__()
        if self.detail_base is not None and self.preset != "full":
            raise ValueError(f"detail_base goes with preset full, got preset {self.preset!r}")
        if self.freeze_sam and self.preset != "full":
            raise ValueError(f"freeze_sam goes with preset full, got preset {self.preset!r}, which leaves SAM out")
        with_sam = self.batch_size * (1 - self.sam_dropout)
        if round(with_sam) < 1 or abs(with_sam - round(with_sam)) > 1e-6:
            raise ValueError(
                f"sam_dropout must leave SAM a whole number of a batch's {self.batch_size} tiles, got "
                f"{self.sam_dropout}"
            )


class BaseInPretraining(TopoSamForSegmentation):
    """A network whose detail branch segments some tiles without SAM while it is trained, so that it learns to.

    See Neverova et al. 2016, arXiv 1501.00102 (modality dropout).

    Attributes:
        sam_dropout: the share of a batch's tiles, in training.
    """

    __module__ = __name__
    sam_dropout = 0.0

    def _segment(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.sam_dropout):
            return super()._segment(pixel_values)
        # Choose the tiles by position, evenly spaced over the batch. Batches are already shuffled.
        places = torch.arange(len(pixel_values) + 1, device=pixel_values.device)
        seen = (places * (1 - self.sam_dropout) + 1e-6).floor().diff() > 0
        with_sam = super()._segment(pixel_values[seen])
        logits = torch.cat([with_sam, self.detail_branch(pixel_values[~seen], None)])
        return logits[torch.cat([seen.nonzero(), (~seen).nonzero()]).flatten().argsort()]


def pretrain(args: PretrainArguments) -> dict:
    """Train a base and write it in float16 to `network/`, a directory for `--base`; return the metrics."""
    counts = {"train": args.images, "validation": 40, "test": 100}
    spec = replace(CATALOG["synthetic"], counts=counts, image_size=args.picture_size, kinds=tuple(args.kinds))
    metrics = train(args, load_segmentation_data(spec), build_base)
    if process_state().is_main_process:
        directory = Path(args.output_dir, "network")
        network = TopoSamForSegmentation.from_pretrained(directory)
        network.adapter_settings = AdapterSettings.from_pretrained(directory)
        with replacing_directory(directory) as new:
            network.half().save_pretrained(new)
    return metrics


def build_base(
    args: PretrainArguments, spec: DatasetSpec, classes: TaskClasses
) -> tuple[BaseInPretraining, AdapterSettings]:
    """Load the base in the form that these settings ask for; what they train of it requires a gradient."""
    given = {name: getattr(args, name) for name in ("image_size", "detail_channels", "detail_context")}
    form = {name: value for name, value in given.items() if value is not None}
    task = task_settings(args, spec, classes)
    form |= {"num_labels": len(classes.labels)}
    form |= {"tile_size": task.pop("tile_size"), "use_sam": get_preset(args.preset).use_sam}
    if args.detail_base is None:
        network = BaseInPretraining.from_pretrained(args.base, **form)
    else:
        network = join_bases(args.base, args.detail_base, BaseInPretraining, **form)
    network.sam_dropout = args.sam_dropout
    if args.preset == "full" and not args.freeze_sam:
        unfreeze(network)
    else:
        network.requires_grad_(False).detail_branch.requires_grad_(True)
    return network, AdapterSettings.of_network(network, preset=args.preset, **task)


@torch.no_grad()
def join_bases(
    base: str, detail_base: str, network_class: type[TopoSamForSegmentation] = TopoSamForSegmentation, **form
) -> TopoSamForSegmentation:
    """Join SAM's part of one base with the detail branch of another.

    SAM's first logits are noise to a detail branch that is trained beside it from nothing. So each learns alone first:
    SAM to give masks, the detail branch to do without SAM. In the joined network SAM's mask is unchanged, and the
    inputs of the detail branch from SAM start at zero.

    Args:
        base: SAM, spatial adapter and decoder are taken from it.
        detail_base: the detail branch is taken from it.
        network_class: the class of the joined network.
        **form: as of `from_pretrained`.

    Raises:
        ValueError: `detail_base` has no detail branch.
    """
    detailed = TopoSamForSegmentation.from_pretrained(detail_base, **form)
    if detailed.detail_branch is None:
        raise ValueError(f"{detail_base} has no detail branch")
    without_branch = {name: value for name, value in form.items() if not name.startswith("detail_")}
    of_sam = TopoSamForSegmentation.from_pretrained(base, **without_branch, detail_channels=0)
    config = of_sam.config
    for name in ("detail_channels", "detail_context"):
        setattr(config, name, getattr(detailed.config, name))
    network = network_class(config).eval()
    for source, part in ((of_sam, "sam"), (of_sam, "spatial_adapter"), (detailed, "detail_branch")):
        network.get_submodule(part).load_state_dict(source.get_submodule(part).state_dict())
    for layer in (network.detail_branch.fuse, network.detail_branch.fuse_context):
        for parameter in layer.parameters():
            parameter.zero_()
    return network
