"""Parameters of a model by the part of the network that they belong to."""

from torch import nn

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
