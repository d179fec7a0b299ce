"""The settings of a training run, by flags or by one YAML or JSON file."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..adapter_format.names import TINY, VESSELS, full_base_name
from ..adapter_format.presets import LORA_VARIANTS, PRESETS, check_lora, get_preset
from ..data.arguments import DataArguments
from ..data.protocols import PROTOCOLS
from ..objective import CLDICE_SCHEDULES
from ..settings import option

_MAX_STEPS = 2500
_network, _training, _objective = (partial(option, group=group) for group in ("network", "training", "objective"))


@dataclass(kw_only=True)
class TrainArguments(DataArguments):
    """Train an adapter, score it, and fill a run directory. Only the data set is required."""

    __module__ = "topolora_hf"  # wherever the file lies

    base: str = _network(
        "facebook/sam-vit-base",
        "a SAM on the Hub, Meta's .pth file, a directory, or embedded: tiny, vessels, tiny-regions, tiny-random",
    )
    preset: str | None = _network(
        None,
        "which parts are trained; by default topolora, or detail_only for tiles on tiny or vessels",
        choices=tuple(PRESETS),
    )
    image_size: int | None = _network(
        None, "pixels a side that SAM's encoder sees; by default the base's. Smaller: less time and memory", at_least=16
    )
    tile_size: int | None = _network(
        None, "pixels a side of a tile of the image; by default the data set's", at_least=16
    )
    view: str | None = _network(
        None,
        "tiles: crops at the image's own resolution, for thin structures; full: the full image resized to one tile, "
        "for regions such as polyps. By default the data set's; tiles for a folder",
        choices=("tiles", "full"),
    )
    rank: int | None = _network(None, "LoRA rank; by default the preset's", at_least=1)
    lora: str = _network("lora", f"PEFT's variant of LoRA: {', '.join(LORA_VARIANTS)}, or pissa_niter_N (N rounds)")
    lora_targets: str = _network(
        "ffn",
        "LoRA in the encoder's ffn, attention or all linear layers, or in those whose names match a regular expression",
    )
    decoder_init: str = _network(
        "sam",
        "sam: the decoder starts from the base's weights; scratch: from random ones, as the paper's text says",
        choices=("sam", "scratch"),
    )

    max_steps: int | None = _training(
        None, f"optimizer steps; by default {_MAX_STEPS}, with protocol paper 50 epochs", at_least=1
    )
    batch_size: int = _training(4, "tiles in a batch of each process", at_least=1)
    gradient_accumulation_steps: int = _training(
        1, "batches summed into one step: more tiles a step in the same memory", at_least=1
    )
    learning_rate: float = _training(5e-4, "AdamW's peak, after warm-up and before the cosine", above=0)
    detail_learning_rate: float = _training(2e-3, "the same for the detail branch", above=0)
    weight_decay: float = _training(1e-4, "of weights, not of norms and biases", at_least=0)
    augmentation: str = _training(
        "all",
        "all: flips, quarter turns, colours, zoom, noise; same_scale: without zoom and noise, for a last run on images "
        "of one camera; none",
        choices=("all", "same_scale", "none"),
    )
    mixed_precision: str = _training(
        "auto", "auto: bf16 if the hardware is faster with it", choices=("auto", "no", "bf16", "fp16")
    )
    gradient_checkpointing: bool = _training(
        False, "recompute the encoder in the backward pass: less memory, more time"
    )

    cldice_weight: float = _objective(0.5, "weight of the clDice term; 0 for regions without a centreline", at_least=0)
    cldice_schedule: str = _objective(
        "ramp", "ramp: the weight rises over the first steps; fixed; adaptive: it is learned", choices=CLDICE_SCHEDULES
    )

    output_dir: str | None = option(None, "the run directory; by default runs/DATASET-PRESET-SEED")
    calibrate: str = option(
        "none",
        "calibrate the probabilities on validation images, or on train if every image is trained on; the masks stay, "
        "those of exclusive classes nearly",
        choices=("none", "validation", "train"),
    )
    test_time_flips: bool = option(
        False, "average each tile's four mirrorings in scores and predictions: four times the time"
    )
    test_time_scales: list[float] = option(
        [1.0], "average the image at each of these times its size in scores and predictions", at_least=0.1, at_most=10
    )
    score_untrained: bool = option(False, "score the base too, on at most 8 images (dice_before, n_before)")
    evaluate_every: int = option(500, "steps between validations", at_least=1)
    log_every: int = option(10, "steps between rows of history.csv", at_least=1)
    log_with: str | None = option(None, "a tracker of Accelerate, such as tensorboard; it has to be installed")
    num_workers: int | None = option(
        None, "processes that load data; by default 2, on a GPU the cores up to 8", at_least=0
    )
    num_threads: int | None = option(None, "CPU threads of each process; by default the cores, shared out", at_least=1)
    overwrite: bool = option(False, "start anew, whatever the run directory holds. Without it the same command resumes")
    push_to_hub: bool = option(False, "publish the adapter after training (log in with `hf auth login`)")
    hub_model_id: str | None = option(None, "the repository, org/name or name; by default the run directory's name")

    def __post_init__(self):
        super().__post_init__()
        self.base = full_base_name(self.base)
        protocol = PROTOCOLS[self.protocol]
        if self.view is not None and protocol.view is not None:
            raise ValueError(f"protocol {self.protocol} decides the view: leave view out, got {self.view!r}")
        if self.preset is None:
            self.preset = recommended_preset(self.base, self.view or protocol.view or _usual_view(self.dataset))
        if self.output_dir is None:
            name = self.dataset.rstrip("/").split("/")[-1]
            self.output_dir = f"runs/{name}-{self.preset}-{self.seed}"
        if self.max_steps is None and protocol.epochs is None:
            self.max_steps = _MAX_STEPS
        if self.calibrate == "train" and "train" not in protocol.scored:
            raise ValueError(f"protocol {self.protocol} scores no training images: calibrate on validation")
        preset = get_preset(self.preset)
        check_lora(self.lora)
        if not preset.rank and (self.rank, self.lora, self.lora_targets) != (None, "lora", "ffn"):
            given = f"rank {self.rank}, lora {self.lora} and lora_targets {self.lora_targets}"
            raise ValueError(f"preset {self.preset!r} has no LoRA: {given} have no use")
        if self.decoder_init == "scratch" and not preset.decoder:
            raise ValueError(f"decoder_init scratch: preset {self.preset!r} does not train the decoder")
        self._check_push()

    @property
    def target_skeleton(self) -> str:
        """The paper's code takes the target's skeleton as softly as the prediction's."""
        return "soft" if self.preset == "paper" else "hard"

    @property
    def repository(self) -> str:
        """The adapter's name on the Hub."""
        return self.hub_model_id or Path(self.output_dir).resolve().name

    def _check_push(self) -> None:
        if not self.push_to_hub:
            if self.hub_model_id is not None:
                raise ValueError("hub_model_id is for runs with push_to_hub")
            return
        if get_preset(self.preset).full:
            raise ValueError(f"push_to_hub publishes adapters, and preset {self.preset!r} trains none")
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(self.repository)
        except HFValidationError as error:
            name = self.repository
            raise ValueError(f"{name!r} cannot be a repository's name (give hub_model_id): {error}") from error


def recommended_preset(base: str, view: str) -> str:
    """The preset where none is given, for a base (full name or path) and a view.

    `tiny` and `vessels` have a detail branch that was trained without SAM, and so has a network that a detail_only
    adapter was merged into: on tiles SAM adds nothing to it.

    >>> recommended_preset("topolora_hf/tiny", "tiles"), recommended_preset("facebook/sam-vit-base", "tiles")
    ('detail_only', 'topolora')
    """
    return "detail_only" if view == "tiles" and (base in (TINY, VESSELS) or _was_detail_only(base)) else "topolora"


def _was_detail_only(base: str) -> bool:
    try:
        settings = json.loads((Path(base) / "topolora_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a SAM; what is wrong with a base is said where it is loaded
        return False
    return isinstance(settings, dict) and settings.get("preset") == "detail_only"


def _usual_view(dataset: str) -> str:
    from ..data.catalog import CATALOG, known_dataset

    return (known_dataset(dataset) or CATALOG["folder"]).view
