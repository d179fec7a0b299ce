"""Checkpoints of the paper's authors' code (github.com/salimkhazem/Seglab, a Lightning `.ckpt`) as adapters of ours."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from ..adapter_format.errors import AdapterMismatchError
from ..adapter_format.presets import preset_network_settings
from ..adapter_format.settings import AdapterSettings
from ..adapters.creation import create_adapter, save_adapter
from ..files import replacing_directory
from ..network.meta_checkpoint import convert_meta_tensors, load_tensors
from ..network.segmenter import TopoSamForSegmentation

PRESET = "seglab"
_STOCK = {"vit_b": "facebook/sam-vit-base", "vit_l": "facebook/sam-vit-large", "vit_h": "facebook/sam-vit-huge"}
_LORA = re.compile(r"^image_encoder\.blocks\.(\d+)\.mlp\.(lin[12])\.lora_([AB])$")
_ADAPTER_PARTS = {"dw": "0", "pw1": "1", "norm": "2", "pw2": "4"}


def convert_seglab_checkpoint(path: str | Path, directory: str | Path, base: str | None = None) -> Path:
    """Write the adapter in an authors' checkpoint as an adapter directory of preset `seglab`, with equal logits.

    Their checkpoint holds the frozen SAM too. It is not written, but must be that of the base, to the bit. Tiles have
    the size that they trained at; they tested on full images squashed to it, an adapter of ours goes over tiles.

    Args:
        path: The `.ckpt` file. Only tensors and plain values are read, no code of it runs.
        directory: Where the adapter goes; must not exist, or be empty.
        base: A Hub id, a directory, or Meta's `.pth` of the SAM that it was trained on; by default the stock SAM of the
            type that the checkpoint names.

    Raises:
        ValueError: The file is no such checkpoint, or trained other parts than preset `seglab` does; or the directory
            is not empty.
        AdapterMismatchError: The base is another SAM than the checkpoint's, or tensors are missing or mis-shaped.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty")
    checkpoint = load_tensors(path)
    lora, spatial_adapter, sam = _sort(checkpoint, path)
    alpha = _setting(checkpoint, path, "model", "lora", "alpha")
    sam_config, sam = convert_meta_tensors(sam, path)
    if base is None:
        sam_type = _setting(checkpoint, path, "model", "sam_type")
        if sam_type not in _STOCK:
            raise ValueError(f"{path} was trained on SAM {sam_type!r}, not one of {', '.join(_STOCK)}: give its base")
        base = _STOCK[sam_type]
    settings = AdapterSettings(
        base=base,
        preset=PRESET,
        image_size=sam_config.vision_config.image_size,
        tile_size=_setting(checkpoint, path, "dataset", "size"),
        detail_channels=0,
        spatial_adapter_form=preset_network_settings(PRESET)["spatial_adapter_form"],
        dataset=_setting(checkpoint, path, "dataset", "name"),
    )
    network = TopoSamForSegmentation.from_pretrained(base, **asdict(settings.form))
    _check_frozen(network.sam.state_dict(), sam, base, path)
    rank = next(tensor.shape[0] for name, tensor in lora.items() if ".lora_A." in name)
    model = create_adapter(network, PRESET, rank=rank, lora_alpha=alpha)
    decoder = {
        f"sam.mask_decoder.modules_to_save.default.{name.removeprefix('mask_decoder.')}": tensor
        for name, tensor in sam.items()
        if name.startswith("mask_decoder.")
    }
    scaling = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("tile_scaling.modules")}
    network.load_state_dict(lora | spatial_adapter | decoder | scaling, strict=False)  # its own hook checks the names
    directory.parent.mkdir(parents=True, exist_ok=True)
    with replacing_directory(directory) as unfinished:
        save_adapter(model, settings, unfinished)
    return directory


def _sort(checkpoint: Mapping, path: str | Path) -> tuple[dict, dict, dict]:
    """LoRA and the spatial adapter under our names, and the rest: SAM, under Meta's."""
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not any(str(name).startswith("net.sam.") for name in state):
        raise ValueError(f"{path} is no checkpoint of the authors' code: it has no state_dict with names net.sam.*")
    lora, spatial_adapter, sam = {}, {}, {}
    for name, tensor in state.items():
        # Lightning's module puts `net.` before every name.
        part, _, rest = name[4:].partition(".") if name.startswith("net.") else ("", "", "")
        module, _, kind = rest.rpartition(".")
        if part == "adapter" and module in _ADAPTER_PARTS:
            spatial_adapter[f"spatial_adapter.modules_to_save.default.refine.{_ADAPTER_PARTS[module]}.{kind}"] = tensor
        elif part == "sam" and (match := _LORA.match(rest)):
            layer, linear, matrix = match.groups()
            lora[f"sam.vision_encoder.layers.{layer}.mlp.{linear}.lora_{matrix}.default.weight"] = tensor
        elif part == "sam":
            sam[rest.replace(".linear.", ".")] = tensor  # what LoRA wraps
        else:
            raise ValueError(f"{path} holds a tensor that the authors' code has not: {name}")
    if not (lora and spatial_adapter):
        lacking = " and ".join(part for part, found in (("LoRA", lora), ("adapter", spatial_adapter)) if not found)
        raise ValueError(f"{path} was trained without {lacking}: preset {PRESET!r} needs LoRA and the adapter")
    return lora, spatial_adapter, sam


def _setting(checkpoint: Mapping, path: str | Path, *keys: str):
    value = checkpoint.get("hyper_parameters")
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise ValueError(f"{path} does not say {'.'.join(keys)} in its hyper_parameters")
        value = value[key]
    return value


def _check_frozen(of_base: Mapping, of_checkpoint: Mapping, base: str, path: str | Path) -> None:
    different = [
        name
        for name, tensor in of_checkpoint.items()
        if not name.startswith("mask_decoder.") and not (name in of_base and torch.equal(of_base[name], tensor))
    ]
    if different:
        raise AdapterMismatchError(
            f"{path} was trained on another SAM than {base}: {len(different)} frozen tensors differ, such as "
            f"{', '.join(different[:3])}; give the base that it was trained on"
        )
