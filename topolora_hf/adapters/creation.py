"""From a preset to a PEFT model, and to its directory."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from peft import LoraConfig, PeftModel

from ..adapter_format.families import FAMILIES
from ..adapter_format.form import TRAVELLING, NetworkForm
from ..adapter_format.names import public_base_name
from ..adapter_format.presets import (
    NO_LORA_TARGETS,
    Preset,
    check_lora,
    get_preset,
    lora_subtracts_its_start,
    preset_network_settings,
)
from ..adapter_format.settings import AdapterSettings
from ..network.segmenter import TopoSamForSegmentation
from .adapted import AdaptedNetwork
from .lora_variants import LoraStart, find_targets

_OF_PEFT = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}}  # what the variants compute; others start so


def create_adapter(
    network: TopoSamForSegmentation,
    preset: str = "topolora",
    rank: int | None = None,
    lora_alpha: int | None = None,
    lora: str = "lora",
    lora_targets: str = "ffn",
    batches: Iterable[Mapping] | None = None,
) -> AdaptedNetwork:
    """Wrap a base for training: everything is frozen but what the preset trains.

    Args:
        network: the base. Its spatial adapter must have the form that the preset needs. What a preset leaves out (SAM,
            the detail branch) does not run in the adapter, and does in the base and in its other adapters.
        preset: a name in `PRESETS`.
        rank: LoRA rank r in place of the preset's.
        lora_alpha: LoRA scaling in place of the preset's; by default the preset's ratio alpha / r is kept.
        lora: a variant by PEFT's name, in `LORA_VARIANTS`. The file is plain LoRA on the base as it is (of `dora`,
            DoRA), and the base keeps its weights; so variants that start from parts of these (`pissa`, `olora`,
            `lora_ga`) have twice the rank, half of it held.
        lora_targets: `ffn`, `attention` or `all` linear layers of the encoder, or a regular expression for their whole
            names. Layers before the first of them need no backward pass.
        batches: what `eva` (`pixel_values`) and `lora_ga` (`labels` too, and `network.criterion`) start from.

    Raises:
        ValueError: for an unknown preset or variant, settings of LoRA for a preset without it, targets that match
            nothing or what is trained anyway, or a base of another form.
    """
    chosen = get_preset(preset)
    if chosen.full:
        raise ValueError(f"preset {preset!r} trains the base itself: there is no adapter to create")
    if rank is not None and (rank < 1 or not chosen.rank):
        raise ValueError(
            f"rank={rank}: preset {preset!r} " + ("needs a rank of 1 or more" if chosen.rank else "has no LoRA")
        )
    check_lora(lora)
    if not chosen.rank and (lora, lora_targets) != ("lora", "ffn"):
        raise ValueError(f"lora={lora!r}, lora_targets={lora_targets!r}: preset {preset!r} has no LoRA")
    form = _form(network, preset)
    # On a bare `SamModel` PEFT must fail, not leave out what it does not find. With LoRA its targets see to that.
    # Without, the decoder's names go without `sam.`: PEFT finds these parts there too, and misses their tensors.
    decoder = chosen.decoder_parts(network.config.family)
    modules_to_save = ["tile_scaling", *(f"sam.{name}" if chosen.rank else name for name in decoder)]
    if network.tile_scaling.num_labels > 1 and chosen.decoder:
        modules_to_save.append("class_masks")
    if chosen.spatial_adapter:
        modules_to_save.append("spatial_adapter")
    if chosen.detail_branch and network.detail_branch is not None:
        modules_to_save += _detail_modules(network, chosen)
    rank = rank or chosen.rank
    ratio = chosen.lora_alpha / chosen.rank if chosen.rank else 1
    config = LoraConfig(
        r=rank or 1,
        lora_alpha=lora_alpha or round(rank * ratio) or 1,
        target_modules=find_targets(network, lora_targets, modules_to_save) if rank else NO_LORA_TARGETS,
        modules_to_save=modules_to_save,
        base_model_name_or_path=_use_public_name(network),
        revision=network.revision,
        **_OF_PEFT.get(lora, {}),
    )
    start = None if lora in ("lora", *_OF_PEFT) else LoraStart(network, lora, config, batches)
    if lora_subtracts_its_start(lora):
        config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
    model = AdaptedNetwork(network, config)
    if start is not None:
        start.apply(network, model.active_adapter)
    network.tile_scaling.change(**{name: getattr(form, name) for name in TRAVELLING})
    network.adapter_settings = AdapterSettings.of_network(network, preset=preset)
    return model


def unfreeze(network: TopoSamForSegmentation) -> TopoSamForSegmentation:
    """Prepare a whole base for training: every part that reaches the logits learns, the rest is frozen."""
    sam = network.sam
    network.requires_grad_(False)
    family = FAMILIES[network.config.family]
    living = [attrgetter(name)(sam) for name in ("vision_encoder", *family.decoder, *family.prompts)]
    living += [network.spatial_adapter, network.detail_branch]
    living += [network.class_masks] if network.tile_scaling.num_labels > 1 else []
    for part in living:
        if part is not None:
            part.requires_grad_(True)
    for name, part in sam.named_modules():
        if name in family.unused:
            part.requires_grad_(False)
    return network


def save_adapter(model: PeftModel, settings: AdapterSettings, directory: str | Path) -> None:
    """Write `adapter_model.safetensors`, `adapter_config.json` and `topolora_config.json`; no local path in any.

    Raises:
        ValueError: the base has no name, as a network that an adapter was merged into.
    """
    if not settings.base:
        raise ValueError(
            "the base has no name that the adapter could be loaded with again: save that network (save_pretrained), "
            "load it from there, and train the adapter on that"
        )
    network = model.get_base_model()
    _use_public_name(network)
    network.adapter_settings = replace(
        settings.in_form(**network.tile_scaling.travelling), base=public_base_name(settings.base)
    )
    model.save_pretrained(str(directory), save_embedding_layers=False)


def _detail_modules(network: TopoSamForSegmentation, preset: Preset) -> list[str]:
    """Name the trained parts. Without SAM, the layers that take in what it saw are not run: frozen, never saved.

    They are named one by one, so that adapters with SAM and without share a base.
    """
    parts = [name for name, _ in network.detail_branch.named_children()]
    return [f"detail_branch.{name}" for name in parts if preset.use_sam or not name.startswith("fuse")]


def _use_public_name(network: TopoSamForSegmentation) -> str:
    """Give the base its public name: PEFT writes it into what it saves."""
    network.name_or_path = network.config._name_or_path = public_base_name(network.name_or_path)
    return network.name_or_path


def _form(network: TopoSamForSegmentation, preset: str) -> NetworkForm:
    """Give the form that an adapter of this preset runs in. ValueError: this base cannot."""
    needed = preset_network_settings(preset)
    form, spatial_adapter = replace(network.base_form, **needed), needed["spatial_adapter_form"]
    if network.base_form.spatial_adapter_form != spatial_adapter:
        raise ValueError(
            f"preset {preset!r} needs a base with spatial_adapter_form={spatial_adapter!r}, this one has "
            f"{network.base_form.spatial_adapter_form!r}"
        )
    return form
