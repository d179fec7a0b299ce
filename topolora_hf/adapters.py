"""Adapters: from a preset to a PEFT model, and back from a directory or the Hub."""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import httpx2
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import nn

from .data import IntensityScaling
from .json_files import read_json_object
from .network import EMBEDDED, AdapterMismatchError, TopoSamForSegmentation
from .network.adapter_files import check_adapter_files
from .setting_values import check_setting_values

SETTINGS_FILE = "topolora_config.json"
LORA_TARGETS = r"sam\.vision_encoder\.layers\.\d+\.mlp\.lin[12]"
# PEFT refuses an empty list of targets; this word means "no LoRA layer".
NO_LORA_TARGETS = "dummy-target-modules"
# The IoU head and hypernetworks 1 to 3 do not reach the logits: frozen, never saved.
LIVING_DECODER = (
    "mask_decoder.transformer",
    "mask_decoder.upscale_conv1",
    "mask_decoder.upscale_conv2",
    "mask_decoder.upscale_layer_norm",
    "mask_decoder.output_hypernetworks_mlps.0",
    "mask_decoder.mask_tokens",
    "mask_decoder.iou_token",
)
WHOLE_DECODER = ("mask_decoder",)


@dataclass(frozen=True)
class Preset:
    """Which parts of the network an adapter trains, and the form of the network that it needs."""

    description: str
    rank: int = 16
    lora_alpha: int = 32
    decoder: tuple[str, ...] = LIVING_DECODER
    spatial_adapter: bool = True
    spatial_adapter_form: str = "paper"
    detail_branch: bool = False
    use_sam: bool = True
    whole: bool = False


PRESETS = {
    "topolora": Preset("LoRA, spatial adapter, decoder and detail branch (default)", detail_branch=True),
    "paper": Preset("the paper's network: LoRA of rank 16, spatial adapter, decoder"),
    "seglab": Preset(
        "the authors' code: LoRA of rank 8, spatial adapter with BatchNorm, whole decoder",
        rank=8,
        lora_alpha=16,
        decoder=WHOLE_DECODER,
        spatial_adapter_form="seglab",
    ),
    "decoder_only": Preset("the decoder", rank=0, spatial_adapter=False),
    "lora_only": Preset("LoRA and decoder", spatial_adapter=False),
    "adapter_only": Preset("spatial adapter and decoder", rank=0),
    "detail_only": Preset(
        "the detail branch alone, without SAM: what SAM adds is seen against it",
        rank=0,
        decoder=(),
        spatial_adapter=False,
        detail_branch=True,
        use_sam=False,
    ),
    "whole": Preset("every part: gives a base of one's own, no adapter", rank=0, detail_branch=True, whole=True),
}


@dataclass
class AdapterSettings:
    """What an adapter needs besides its tensors; `topolora_config.json` in its directory."""

    base: str = field(metadata={"help": "public name of the base: a Hub id or topolora_hf/tiny"})
    preset: str = field(default="topolora", metadata={"help": f"one of {', '.join(PRESETS)}"})
    image_size: int = field(default=1024, metadata={"help": "S: pixels a side that SAM's encoder sees"})
    tile_size: int = field(default=1024, metadata={"help": "T: pixels a side of a tile of the image"})
    detail_channels: int = field(default=16, metadata={"help": "channels of the detail branch; 0: none"})
    spatial_adapter_form: str = field(default="paper", metadata={"help": "paper or seglab"})
    use_sam: bool = field(default=True, metadata={"help": "False: the detail branch alone"})
    view: str = field(
        default="tiles", metadata={"help": "tiles at native resolution, or the whole image resized to one"}
    )
    threshold: float = field(default=0.5, metadata={"help": "probability from which a pixel is foreground"})
    temperature: float = field(
        default=1.0, metadata={"help": "T: a probability p is given as sigmoid(logit(p) / T); above 1: less certain"}
    )
    test_time_flips: bool = field(
        default=False, metadata={"help": "whether a probability is the mean over each tile's four mirrorings"}
    )
    image_mean: tuple[float, ...] = field(
        default=(0.485, 0.456, 0.406), metadata={"help": "subtracted from RGB in [0, 1]"}
    )
    image_std: tuple[float, ...] = field(default=(0.229, 0.224, 0.225), metadata={"help": "divides RGB after that"})
    labels: tuple[str, ...] = field(default=("foreground",), metadata={"help": "names of the K logit maps"})
    intensity: IntensityScaling | None = field(
        default=None, metadata={"help": "how images of more than 8 bits became 8 bits; None: there were none"}
    )
    disc_diameter: float | None = field(
        default=None, metadata={"help": "of the retinal disc in the training images, in pixels; None: no retinas"}
    )
    dataset: str | None = field(default=None, metadata={"help": "what it was trained on"})

    def network_settings(self) -> dict:
        """The keyword arguments of `TopoSamForSegmentation.from_pretrained` that build the base."""
        return {
            "image_size": self.image_size,
            "tile_size": self.tile_size,
            "detail_channels": self.detail_channels,
            "spatial_adapter_form": self.spatial_adapter_form,
            "use_sam": self.use_sam,
            "num_labels": len(self.labels),
        }

    def save(self, directory: str | Path) -> None:
        text = json.dumps(asdict(self), indent=2) + "\n"
        (Path(directory) / SETTINGS_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub_options) -> "AdapterSettings":
        """Reads `topolora_config.json` from an adapter's directory or Hub repository.

        Raises:
            FileNotFoundError: the directory or repository holds no such file: it is no adapter of this package.
            ValueError: the file has unknown or missing fields, absurd values, or is not JSON.
        """
        file = _find_file(name_or_path, SETTINGS_FILE, **hub_options)
        values = read_json_object(file)
        known = {f.name for f in fields(cls)}
        if "base" not in values or not values.keys() <= known:
            raise ValueError(f"{file} must hold an object with `base` and fields among {', '.join(sorted(known))}")
        try:
            return cls.from_dict(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping) -> "AdapterSettings":
        """What a JSON object of all fields, or some, means.

        Raises:
            TypeError: for a field that there is not.
            ValueError: for a value that no adapter has (`check_setting_values`).
        """
        check_setting_values(values)
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if values.get("intensity") is not None:
            values["intensity"] = IntensityScaling(**values["intensity"])
        return cls(**values)

    @classmethod
    def of_network(cls, network: TopoSamForSegmentation, **settings) -> "AdapterSettings":
        """Those of a base in the form that it has; `settings` are what its configuration does not say."""
        form = ("image_size", "tile_size", "detail_channels", "spatial_adapter_form", "use_sam")
        own = {name: getattr(network.config, name) for name in form}
        return cls(base=public_base_name(network.name_or_path), **own, **settings)


def create_adapter(
    network: TopoSamForSegmentation,
    preset: str = "topolora",
    rank: int | None = None,
    lora_alpha: int | None = None,
    lora_layers: int | None = None,
) -> PeftModel:
    """Wraps a base for training: everything frozen but what the preset trains.

    Args:
        network: the base. It must have the form that the preset needs (see `preset_network_settings`).
        preset: a name in `PRESETS`.
        rank: LoRA rank r in place of the preset's.
        lora_alpha: LoRA scaling in place of the preset's; by default the preset's ratio alpha / r is kept.
        lora_layers: LoRA in this many of the encoder's last layers only; the frozen layers before them then need no
            backward pass and no memory for it. None: in all.

    Raises:
        ValueError: for an unknown preset, a rank or layers for a preset without LoRA, more layers than there are, or a
            base of another form.
    """
    chosen = get_preset(preset)
    if chosen.whole:
        raise ValueError(f"preset {preset!r} trains the base itself: there is no adapter to create")
    if rank is not None and (rank < 1 or not chosen.rank):
        raise ValueError(
            f"rank={rank}: preset {preset!r} " + ("needs a rank of 1 or more" if chosen.rank else "has no LoRA")
        )
    depth = len(network.sam.vision_encoder.layers)
    if lora_layers is not None and not (chosen.rank and 1 <= lora_layers <= depth):
        allowed = f"needs 1 to {depth}" if chosen.rank else "has no LoRA"
        raise ValueError(f"lora_layers={lora_layers}: preset {preset!r} {allowed}")
    _check_form(network, preset)
    # On a bare `SamModel` PEFT must fail, not leave out what it does not find. With LoRA its targets see to that.
    # Without, the decoder's names go without `sam.`: PEFT finds these parts there too, and misses their tensors.
    modules_to_save = ["tile_scaling", *(f"sam.{name}" if chosen.rank else name for name in chosen.decoder)]
    if chosen.spatial_adapter:
        modules_to_save.append("spatial_adapter")
    if chosen.detail_branch and network.detail_branch is not None:
        modules_to_save += _detail_modules(network, chosen)
    rank = rank or chosen.rank
    ratio = chosen.lora_alpha / chosen.rank if chosen.rank else 1
    config = LoraConfig(
        r=rank or 1,
        lora_alpha=lora_alpha or round(rank * ratio) or 1,
        target_modules=_lora_targets(depth, lora_layers) if rank else NO_LORA_TARGETS,
        modules_to_save=modules_to_save,
    )
    _use_public_name(network)
    return get_peft_model(network, config)


def unfreeze(network: TopoSamForSegmentation) -> TopoSamForSegmentation:
    """Prepares a whole base for training: every part that reaches the logits learns, the rest is frozen."""
    sam = network.sam
    network.requires_grad_(False)
    living = [network.get_submodule(f"sam.{name}") for name in LIVING_DECODER]
    living += [sam.vision_encoder, sam.prompt_encoder.no_mask_embed, network.spatial_adapter, network.detail_branch]
    for part in living:
        if part is not None:
            part.requires_grad_(True)
    return network


def _lora_targets(depth: int, last: int | None) -> str:
    """A pattern of the feed-forward layers of the encoder, of all `depth` or of the `last` ones."""
    if last is None:
        return LORA_TARGETS
    return LORA_TARGETS.replace(r"\d+", f"(?:{'|'.join(map(str, range(depth - last, depth)))})")


def get_preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the names."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_network_settings(preset: str) -> dict:
    """`TopoSamConfig` fields that a base needs for a preset; `detail_channels` is 0 or left to the default."""
    chosen = get_preset(preset)
    settings = {"spatial_adapter_form": chosen.spatial_adapter_form, "use_sam": chosen.use_sam}
    if not chosen.detail_branch:
        settings["detail_channels"] = 0
    return settings


def save_adapter(model: PeftModel, settings: AdapterSettings, directory: str | Path) -> None:
    """Writes `adapter_model.safetensors`, `adapter_config.json` and `topolora_config.json`; no local path in any."""
    _use_public_name(model.get_base_model())
    for config in model.peft_config.values():
        config.base_model_name_or_path = public_base_name(config.base_model_name_or_path or "")
    model.save_pretrained(str(directory), save_embedding_layers=False)
    replace(settings, base=public_base_name(settings.base)).save(directory)


def load_adapter(
    name_or_path: str | Path,
    base: str | TopoSamForSegmentation | None = None,
    adapter_name: str = "default",
    is_trainable: bool = False,
    **hub_options,
) -> PeftModel:
    """Loads an adapter with the base it was trained on, built in the form it needs.

    Args:
        name_or_path: a directory, or a Hub id such as `"someone/drive-vessels"`.
        base: in place of the base that the adapter names: a Hub id, a directory, or a network.
        adapter_name: the name by which `set_adapter` knows it.
        is_trainable: whether to go on training it.
        **hub_options: `revision`, `token`, `cache_dir`, as `huggingface_hub` takes them.

    Returns:
        The `PeftModel`, in evaluation mode unless trainable; `model.adapter_settings` holds its `AdapterSettings`.

    Raises:
        FileNotFoundError: no adapter of this package is there.
        OSError: the Hub cannot be reached, has no such repository or revision, or sent a file that is not whole.
        ValueError: its settings are not JSON, or are none that an adapter of this package has.
        AdapterMismatchError: its tensors do not fit the base, or are not finite; the message names each.
    """
    settings = AdapterSettings.from_pretrained(name_or_path, **hub_options)
    directory = _complete_directory(name_or_path, **hub_options)
    if isinstance(base, nn.Module):
        network = base
        if not isinstance(network, TopoSamForSegmentation):
            raise AdapterMismatchError(f"the base must be a TopoSamForSegmentation, got a {type(network).__name__}")
    else:
        base = base or settings.base
        try:
            network = TopoSamForSegmentation.from_pretrained(base, **settings.network_settings())
        except OSError as error:  # transformers says the same of a line that went dead and of a name that is wrong
            raise OSError(f"the base {base} cannot be loaded (if it is on the Hub, try again): {error}") from error
    model = AdaptedNetwork.from_pretrained(network, directory, adapter_name=adapter_name, is_trainable=is_trainable)
    return model.train(is_trainable)


class AdaptedNetwork(PeftModel):
    """A `PeftModel` that knows the settings of each of its adapters: what `load_adapter` returns.

    Example:
        model = load_adapter("someone/drive-vessels", adapter_name="vessels")
        model.load_adapter("someone/polyps", adapter_name="polyps")  # on the same base
        model.set_adapter("polyps")  # model.adapter_settings, too, are those of the polyps from here on
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._settings_by_name: dict[str, AdapterSettings] = {}

    @property
    def adapter_settings(self) -> AdapterSettings | None:
        """Those of the active adapter; None when it was not loaded but added."""
        return self._settings_by_name.get(self.active_adapter)

    def load_adapter(self, model_id: str | Path, adapter_name: str, is_trainable: bool = False, **kwargs):
        """PEFT's, with the settings and with the errors of `topolora_hf.load_adapter`."""
        hub_options = {name: kwargs.pop(name) for name in ("revision", "token", "cache_dir") if name in kwargs}
        settings = AdapterSettings.from_pretrained(model_id, **hub_options)
        directory = _complete_directory(model_id, **hub_options)
        try:
            result = super().load_adapter(directory, adapter_name, is_trainable=is_trainable, **kwargs)
        except KeyError as error:  # how PEFT says that a tensor of a whole trained part is not in the file
            raise AdapterMismatchError(f"the adapter does not fit this base: missing {error.args[0]}") from error
        self._settings_by_name[adapter_name] = settings
        return result


def merge_adapter(model: PeftModel) -> TopoSamForSegmentation:
    """The base with the active adapter folded in: a plain network without a trace of PEFT. The model stays as it is.

    Returns:
        A network in evaluation mode. It carries the adapter's settings as `adapter_settings`, and `save_pretrained`
        writes them too.
    """
    network = copy.deepcopy(model).merge_and_unload().eval()
    network.update_config()
    settings = getattr(model, "adapter_settings", None)
    if settings is not None:
        network.adapter_settings = replace(settings, base=public_base_name(settings.base))
    return network


def public_base_name(name_or_path: str) -> str:
    """A base's name as it may be published: a Hub id stays, of a local directory only the last part is kept."""
    is_hub_id = name_or_path in ("", *EMBEDDED) or (name_or_path.count("/") <= 1 and not Path(name_or_path).exists())
    return name_or_path if is_hub_id else Path(name_or_path).resolve().name


def parameter_table(model: nn.Module) -> list[dict]:
    """Trainable and total parameters by part of the network.

    Returns:
        One dict a part (`part`, `trainable`, `total`), in the order of the forward pass, and their sum as `"all"`. What
        PEFT keeps twice (the base's copy of a trained part) is counted once.
    """
    rows = {part: {"part": part, "trainable": 0, "total": 0} for part in (*_PARTS.values(), "other")}
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        part = next((part for mark, part in _PARTS.items() if mark in name), "other")
        rows[part]["total"] += parameter.numel()
        rows[part]["trainable"] += parameter.numel() * parameter.requires_grad
    table = [row for row in rows.values() if row["total"]]
    table.append({key: sum(row[key] for row in table) for key in ("trainable", "total")} | {"part": "all"})
    return table


def format_parameter_table(table: list[dict]) -> str:
    """The rows of `parameter_table` as aligned text, with the trainable share."""
    lines = [f"{'part':16} {'trainable':>12} {'total':>12}"]
    lines += [f"{row['part']:16} {row['trainable']:12,} {row['total']:12,}" for row in table]
    share = table[-1]["trainable"] / table[-1]["total"]
    return "\n".join([*lines, f"{share:.1%} of the parameters are trained"])


_PARTS = {
    ".lora_": "LoRA",
    "vision_encoder": "image encoder",
    "spatial_adapter": "spatial adapter",
    "mask_decoder": "mask decoder",
    "detail_branch": "detail branch",
    "prompt_encoder": "prompt encoder",
}


def _detail_modules(network: TopoSamForSegmentation, preset: Preset) -> list[str]:
    """Without SAM the layers that take in what it saw are not run: frozen, never saved."""
    if preset.use_sam:
        return ["detail_branch"]
    parts = [name for name, _ in network.detail_branch.named_children()]
    return [f"detail_branch.{name}" for name in parts if not name.startswith("fuse")]


def _use_public_name(network: TopoSamForSegmentation) -> None:
    """PEFT writes the base's name into what it saves: from here on the base goes by its public one."""
    network.name_or_path = network.config._name_or_path = public_base_name(network.name_or_path)


def _check_form(network: TopoSamForSegmentation, preset: str) -> None:
    for key, needed in preset_network_settings(preset).items():
        present = getattr(network.config, key)
        if present != needed:
            raise ValueError(f"preset {preset!r} needs a base with {key}={needed!r}, this one has {key}={present!r}")


def _complete_directory(name_or_path: str | Path, **hub_options) -> str:
    """Where all of an adapter's files lie together, checked, whether they came from a directory or from the Hub."""
    _find_file(name_or_path, SAFETENSORS_WEIGHTS_NAME, **hub_options)
    directory = Path(_find_file(name_or_path, CONFIG_NAME, **hub_options)).parent
    check_adapter_files(directory)
    return str(directory)


def _find_file(name_or_path: str | Path, name: str, **hub_options) -> str:
    directory = Path(name_or_path)
    if directory.is_dir():
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} holds no {name}: it is not an adapter directory of topolora_hf")
        return str(directory / name)
    nothing_there = f"no adapter at {name_or_path}: expected a directory or a Hub id such as org/name"
    if directory.exists() or str(name_or_path).count("/") != 1:
        raise FileNotFoundError(nothing_there)
    try:
        return hf_hub_download(str(name_or_path), name, **hub_options)
    except HFValidationError as error:
        raise FileNotFoundError(nothing_there) from error
    except RevisionNotFoundError as error:
        revision = hub_options.get("revision")
        raise FileNotFoundError(f"the Hub repository {name_or_path} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise OSError(
            f"{name_or_path} is no directory here, nor in the local cache, and the Hub cannot be reached: {error}"
        ) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(
            f"the Hub repository {name_or_path} holds no {name}: not an adapter of topolora_hf"
        ) from error
    except (OSError, httpx2.HTTPError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status == 401 or isinstance(error, RepositoryNotFoundError):  # the Hub does not tell a stranger which
            raise FileNotFoundError(
                f"no repository {name_or_path} on the Hub that you may read: check the name; for a private one log in "
                "with `hf auth login`, or give token"
            ) from error
        raise OSError(
            f"{name} of the Hub repository {name_or_path} did not arrive whole, try again: {error}"
        ) from error
