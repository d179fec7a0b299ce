"""Presets: which parts of the network an adapter trains."""

import re
from dataclasses import dataclass

from .families import FAMILIES

# PEFT refuses an empty list of targets; this word means "no LoRA layer".
NO_LORA_TARGETS = "dummy-target-modules"
# How LoRA starts, or what it computes, by PEFT's names; and `pissa_niter_N`, the same as pissa in N rounds.
LORA_VARIANTS = (
    *("lora", "rslora", "dora", "gaussian", "orthogonal"),
    *("mica", "eva", "pissa", "olora", "lora_ga"),
)
STARTS_FROM_DATA = ("eva", "lora_ga")


@dataclass(frozen=True)
class Preset:
    """Which parts of the network an adapter trains, and the form of the network that it needs.

    Attributes:
        decoder: `"living"`, the parts of the mask decoder that reach the mask; `"whole"`; or None.
    """

    description: str
    rank: int = 16
    lora_alpha: int = 32
    decoder: str | None = "living"
    spatial_adapter: bool = True
    spatial_adapter_form: str = "paper"
    detail_branch: bool = False
    use_sam: bool = True
    full: bool = False

    def decoder_parts(self, family: str) -> tuple[str, ...]:
        """Name what is trained of a family's mask decoder."""
        return {"living": FAMILIES[family].decoder, "whole": ("mask_decoder",), None: ()}[self.decoder]


PRESETS = {
    "topolora": Preset("LoRA, spatial adapter, decoder and detail branch (default)", detail_branch=True),
    "paper": Preset("the paper's network: LoRA of rank 16, spatial adapter, decoder"),
    "seglab": Preset(
        "the authors' code: LoRA of rank 8, spatial adapter with BatchNorm, whole decoder",
        rank=8,
        lora_alpha=16,
        decoder="whole",
        spatial_adapter_form="seglab",
    ),
    "decoder_only": Preset("the decoder", rank=0, spatial_adapter=False),
    "lora_only": Preset("LoRA and decoder", spatial_adapter=False),
    "adapter_only": Preset("spatial adapter and decoder", rank=0),
    "detail_only": Preset(
        "the detail branch alone, without SAM: what SAM adds is seen against it",
        rank=0,
        decoder=None,
        spatial_adapter=False,
        detail_branch=True,
        use_sam=False,
    ),
    "full": Preset("every part: makes a base of its own, no adapter", rank=0, detail_branch=True, full=True),
}


def get_preset(name: str) -> Preset:
    """Give the preset of that name; ValueError lists the names."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: one of {', '.join(PRESETS)}")
    return PRESETS[name]


def check_lora(variant: str) -> None:
    """Check the name of a variant of LoRA; ValueError lists the names."""
    if variant not in LORA_VARIANTS and not re.fullmatch(r"pissa_niter_\d{1,3}", variant):
        raise ValueError(f"unknown lora {variant!r}: one of {', '.join(LORA_VARIANTS)}, pissa_niter_N")


def lora_subtracts_its_start(variant: str) -> bool:
    """Whether a variant starts from parts of the base's weights: its adapter has twice the rank."""
    return variant.startswith("pissa") or variant in ("olora", "lora_ga")


def preset_network_settings(preset: str) -> dict:
    """Give the fields of `NetworkForm` that a preset asks of a base; `detail_channels` is 0 or left to the default."""
    chosen = get_preset(preset)
    settings = {"spatial_adapter_form": chosen.spatial_adapter_form, "use_sam": chosen.use_sam}
    if not chosen.detail_branch:
        settings["detail_channels"] = 0
    return settings
