"""The embedded bases: SAMs that need no download.

`topolora_hf/tiny` was pretrained on synthetic images alone (see `bases/tiny/README.md`): it is a whole network that
segments thin structures as it comes. `topolora_hf/vessels` is `tiny` with a detail branch that was trained on fundus
photographs; its file holds that branch alone. `topolora_hf/tiny-regions` has the same shape. Its SAM was pretrained on
drawn regions, for polyps and the like. `topolora_hf/tiny-random` is what that training started from: seeded random
numbers, drawn from exact integers of torch's generator (scaled uniform numbers, no transcendental functions), so that
every machine builds the same base and an adapter fits it anywhere. `topolora_hf/vit-s-random` and
`topolora_hf/vit-b-random` are drawn likewise: stock SAM with a ViT-S and a ViT-B, for what depends on shapes alone.
"""

import hashlib
import math
import warnings
from functools import cache, partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ..adapter_format import names
from ..adapter_format.names import TINY, TINY_RANDOM, TINY_REGIONS, VESSELS, VIT_B_RANDOM, VIT_S_RANDOM
from ..adapter_format.settings import AdapterSettings
from .configuration import TopoSamConfig, check_family
from .guards import check_base_parts

_SEED = 0
_BASES = Path(__file__).parents[1] / "bases"
PRETRAINED = {name: _BASES / name.split("/")[1] for name in names.PRETRAINED}  # their directories


def tiny_config(**settings) -> TopoSamConfig:
    """Make the configuration of `tiny`: a 6-layer, 256-wide ViT at 256 pixels, decoder width 128."""
    vision = {
        "hidden_size": 256,
        "output_channels": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "image_size": 256,
        "window_size": 8,
        "global_attn_indexes": [1, 3, 5],
        "num_pos_feats": 64,
    }
    prompt = {"hidden_size": 128, "image_size": 256}
    decoder = {"hidden_size": 128, "mlp_dim": 512, "iou_head_hidden_dim": 128}
    return TopoSamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder, **settings)


_CONFIGS = {
    TINY: tiny_config,
    VESSELS: partial(tiny_config, use_sam=False),  # SAM had no part in its training
    TINY_REGIONS: tiny_config,
    TINY_RANDOM: tiny_config,
    # stock SAM's with another encoder: 12 layers, 384 wide, 6 heads
    VIT_S_RANDOM: partial(TopoSamConfig, vision_config={"hidden_size": 384, "num_attention_heads": 6}),
    VIT_B_RANDOM: TopoSamConfig,
}
_BENEATH = {VESSELS: TINY}  # where what a file does not hold is read
# What AutoPeftModel and transformers pass on to any base; there is no file here for them to act on. (Memory is always
# saved: transformers does nothing on `low_cpu_mem_usage` either.)
_LOADING_KEYWORDS = {"revision", "token", "cache_dir", "local_files_only", "force_download"}
_LOADING_KEYWORDS |= {"use_safetensors", "low_cpu_mem_usage"}


def build_embedded(network_class: type, name: str, **settings) -> nn.Module:
    """Build the embedded base of that name.

    In the random ones the spatial adapter and the detail branch start as on any base. So does a spatial adapter of
    another form than the stored one, and so do context blocks that the stored detail branch lacks.

    Raises:
        TypeError: for a keyword that is neither a `TopoSamConfig` field nor `dtype`, `device_map` (one device),
            `attn_implementation`.
        ValueError: the stored detail branch does not have the form that is asked for.
    """
    dtype, device = settings.pop("dtype", None), settings.pop("device_map", None)
    if device == "auto":  # of one device: it is small
        device = torch.accelerator.current_accelerator() or "cpu"
    if isinstance(device, dict):
        raise TypeError(f"{name} lies on one device, got device_map={device}")
    attention = settings.pop("attn_implementation", None)
    settings = {key: value for key, value in settings.items() if key not in _LOADING_KEYWORDS}
    known = TopoSamConfig()
    unknown = [key for key in settings if not hasattr(known, key)]
    if unknown:
        raise TypeError(f"{name} takes no {', '.join(unknown)}")
    num_labels = settings.pop("num_labels", 1)
    check_family("sam", settings.pop("family", None))
    config = _CONFIGS[name](**settings)
    if attention is not None:
        config._attn_implementation = attention
    network = network_class(config)
    network.name_or_path = config._name_or_path = name
    if name in PRETRAINED:
        settings = AdapterSettings.from_pretrained(PRETRAINED[name])
        _load_weights(network, PRETRAINED[name], settings.spatial_adapter_form)
        network.adapter_settings = settings.in_form(**network.tile_scaling.travelling)
        network.revision = _revision(PRETRAINED[name])
    else:
        _draw_weights(network.sam)
    network.start_classes(num_labels)
    if dtype == "auto":  # as stored
        dtype = torch.float16 if name in PRETRAINED else torch.float32
    network.to(device, getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    return network.eval()


def _load_weights(network: nn.Module, directory: Path, form: str) -> None:
    stored = load_file(directory / "model.safetensors")  # float16
    if beneath := _BENEATH.get(network.name_or_path):
        stored = load_file(PRETRAINED[beneath] / "model.safetensors") | stored
    for alias, source in network.sam._tied_weights_keys.items():  # a tensor of two names is stored under one
        stored[f"sam.{alias}"] = stored[f"sam.{source}"]
    if form != network.config.spatial_adapter_form:
        warnings.warn(
            f"{network.name_or_path} has a spatial adapter of form {form}: it is left out, and one of form "
            f"{network.config.spatial_adapter_form} starts at zero",
            stacklevel=3,
        )
        stored = {name: tensor for name, tensor in stored.items() if not name.startswith("spatial_adapter.")}
    own = network.state_dict()
    shapes = [(name, stored[name].shape, tensor.shape) for name, tensor in own.items() if name in stored]
    check_base_parts(network, stored.keys() - own.keys(), (entry for entry in shapes if entry[1] != entry[2]))
    network.load_state_dict({name: stored[name] for name, *_ in shapes}, strict=False)


@cache
def _revision(directory: Path) -> str:
    """Tell one file of weights from another of the same name."""
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()[:12]


@torch.no_grad()
def _draw_weights(sam: nn.Module) -> None:
    """Draw weights of unit gain: every layer passes on features of the size it was given (variance 1 / fan-in)."""
    generator = torch.Generator().manual_seed(_SEED)
    for name, parameter in sam.named_parameters():
        if name.endswith("positional_embedding"):
            bound = math.sqrt(3)
        elif parameter.ndim == 1:
            continue  # norms start at one, biases at zero
        elif "rel_pos" in name or "pos_embed" in name or name.endswith(("embed.weight", "tokens.weight")):
            bound = 0.1
        else:
            fan_in = parameter.shape[0] if "upscale_conv" in name else parameter[0].numel()
            bound = math.sqrt(3 / fan_in)
        parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
