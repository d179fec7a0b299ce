"""Parameters of a model by the part of the network that they belong to."""

from torch import nn

from ..network.feed_forward import is_in_place

_BY_PEFT = "LoRA by PEFT"  # where its own modules compute it: attention, DoRA
_PARTS = {
    ".lora_": "LoRA",
    "vision_encoder": "image encoder",
    "spatial_adapter": "spatial adapter",
    "mask_decoder": "mask decoder",
    "class_masks": "mask decoder",
    "detail_branch": "detail branch",
    "prompt_encoder": "prompt encoder",
}


def parameter_table(model: nn.Module) -> list[dict]:
    """Trainable and total parameters by part of the network.

    Returns:
        One dict a part (`part`, `trainable`, `total`), in the order of the forward pass, and their sum as `"all"`. What
        PEFT keeps twice (the base's copy of a trained part) is counted once. LoRA that our layer computes in place and
        LoRA by PEFT's modules are two parts.
    """
    parts = ("LoRA", _BY_PEFT, *_PARTS.values(), "other")
    rows = {part: {"part": part, "trainable": 0, "total": 0} for part in parts}
    in_place = _in_place(model)
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        part = next((part for mark, part in _PARTS.items() if mark in name), "other")
        if part == "LoRA" and id(parameter) not in in_place:
            part = _BY_PEFT
        rows[part]["total"] += parameter.numel()
        # What a variant of LoRA holds as it is gets no gradient.
        rows[part]["trainable"] += (parameter.numel() - getattr(parameter, "held", 0)) * parameter.requires_grad
    table = [row for row in rows.values() if row["total"]]
    table.append({key: sum(row[key] for row in table) for key in ("trainable", "total")} | {"part": "all"})
    return table


def _in_place(model: nn.Module) -> set[int]:
    """Identify the parameters of the layers whose LoRA is computed in place."""
    if not getattr(getattr(model, "config", None), "fast_encoder", False):
        return set()
    layers = [module.mlp for module in model.modules() if is_in_place(module)]
    return {id(parameter) for mlp in layers for parameter in mlp.parameters()}


def lora_in_words(model: nn.Module, variant: str) -> str:
    """Say how LoRA is put into a model, and what computes it: our layer in place, or PEFT's own."""
    rows = {row["part"]: row for row in parameter_table(model)}
    how = [words for part, words in (("LoRA", "in place"), (_BY_PEFT, "by PEFT's own layer")) if part in rows]
    count = sum(name.endswith("lora_A") for name, _ in model.named_modules())
    config = next(iter(model.peft_config.values()))
    return f"{variant} in {count} layers, matrices of rank {config.r}; computed {' and '.join(how)}"


def format_parameter_table(table: list[dict]) -> str:
    """The rows of `parameter_table` as aligned text, with the trainable share."""
    lines = [f"{'part':16} {'trainable':>12} {'total':>12}"]
    lines += [f"{row['part']:16} {row['trainable']:12,} {row['total']:12,}" for row in table]
    share = table[-1]["trainable"] / table[-1]["total"]
    return "\n".join([*lines, f"{share:.1%} of the parameters are trained"])
