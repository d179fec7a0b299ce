"""Losses and gradients that are not finite: found on all processes together, and kept from what is saved."""

import math
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

ON_NON_FINITE = ("stop", "skip")
_MOST_IN_A_ROW = 10
_NAMED = 5


class NumericsGuard:
    """Looks at every optimizer step before it is taken.

    Args:
        accelerator: whose processes decide together: where one has to stop or skip, all do.
        on_non_finite: `"stop"` raises; `"skip"` reports, and leaves the step out.
    """

    def __init__(self, accelerator: Accelerator, on_non_finite: str):
        self.accelerator, self.on_non_finite = accelerator, on_non_finite
        self._in_a_row = 0

    def allows(
        self, step: int, losses: Sequence[torch.Tensor], gradient_norm: torch.Tensor, batches: Sequence[Sequence[str]]
    ) -> bool:
        """Whether the step may be taken; the same on every process.

        Args:
            step: its number, for the message.
            losses: scalars, of this process's batches of the step.
            gradient_norm: scalar, of all processes' gradients; infinite or NaN gradients show in it.
            batches: the images' ids of each batch.

        Raises:
            FloatingPointError: a loss or gradient is not finite and `on_non_finite` is `"stop"`, or it happened at ten
                steps in a row: then the weights are the reason. The message names the images.
        """
        own_losses = torch.stack([loss.detach().float() for loss in losses])
        values = torch.cat([own_losses, gradient_norm.detach().float().reshape(1)]).to(self.accelerator.device)
        if torch.isfinite(self.accelerator.gather(values)).all():
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        message = self._describe(step, own_losses.tolist(), float(gradient_norm), batches)
        if self.on_non_finite == "stop":
            raise FloatingPointError(f"{message}. The same command with --on_non_finite skip goes on without them")
        if self._in_a_row == _MOST_IN_A_ROW:
            raise FloatingPointError(f"{message}, at {_MOST_IN_A_ROW} steps in a row: try a lower learning_rate")
        if self.accelerator.is_main_process:
            print(f"skipped: {message}")
        return False

    def _describe(self, step: int, losses: list[float], norm: float, batches: Sequence[Sequence[str]]) -> str:
        bad = [(loss, list(ids)) for loss, ids in zip(losses, batches, strict=True) if not math.isfinite(loss)]
        if bad_anywhere := gather_object(bad):
            value, what = bad_anywhere[0][0], "loss"
            images = [name for _, ids in bad_anywhere for name in ids]
        else:
            value, what = norm, "gradient's norm"
            images = gather_object([name for ids in batches for name in ids])
        return f"the {what} is {value} at step {step} on images {', '.join(images)}"


class Statistics:
    """The running statistics of a network's normalisations as the last good step left them: a forward pass changes
    them before its loss is known."""

    def __init__(self, network: nn.Module):
        self._live = list(network.buffers())
        self._kept = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def keep(self) -> None:
        for kept, live in zip(self._kept, self._live, strict=True):
            kept.copy_(live)

    @torch.no_grad()
    def bring_back(self) -> None:
        for kept, live in zip(self._kept, self._live, strict=True):
            live.copy_(kept)


def require_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """What is not finite is not saved.

    Raises:
        FloatingPointError: tensors are not; the message names the first few.
    """
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    bad = [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise FloatingPointError(
            f"{len(bad)} of {len(tensors)} trained tensors are not finite, among them {', '.join(bad[:_NAMED])}: they "
            "are not saved. Try a lower learning_rate"
        )
