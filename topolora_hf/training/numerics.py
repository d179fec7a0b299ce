"""Losses, gradients and weights that are not finite: found on all processes together, and never saved."""

import math
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

_NAMED = 5


def require_finite_step(
    accelerator: Accelerator,
    step: int,
    losses: torch.Tensor,
    gradient_norm: torch.Tensor,
    batches: Sequence[Sequence[str]],
) -> None:
    """Look at an optimizer step before it is taken. If one process finds something, all raise.

    Args:
        step: its number, for the message.
        losses: (B,), of this process's batches of the step.
        gradient_norm: scalar, of all processes' gradients; infinite or NaN gradients show in it.
        batches: the images' ids of each batch.

    Raises:
        FloatingPointError: a loss or gradient is not finite; the message names the images.
    """
    values = torch.cat([losses.float(), gradient_norm.detach().float().reshape(1)]).to(accelerator.device)
    if torch.isfinite(accelerator.gather(values)).all():
        return
    bad = [(loss, list(ids)) for loss, ids in zip(losses.tolist(), batches, strict=True) if not math.isfinite(loss)]
    if bad_anywhere := gather_object(bad):
        value, what = bad_anywhere[0][0], "loss"
        images = [name for _, ids in bad_anywhere for name in ids]
    else:
        value, what = float(gradient_norm), "gradient's norm"
        images = gather_object([name for ids in batches for name in ids])
    raise FloatingPointError(
        f"the {what} is {value} at step {step} on images {', '.join(images)}. Look at these images, or try a lower "
        "learning_rate"
    )


def require_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse to save what is not finite.

    Raises:
        FloatingPointError: tensors are not finite; the message names the first few.
    """
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    bad = [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise FloatingPointError(
            f"{len(bad)} of {len(tensors)} trained tensors are not finite, among them {', '.join(bad[:_NAMED])}: they "
            "are not saved. Try a lower learning_rate"
        )
