"""Losses, gradients and weights that are not finite: found on all processes together, and never saved."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

_NAMED = 5


class StepCheck:
    """Look at the losses and the gradient of each step, one step late: on a GPU no step waits for its own values.

    All processes raise together: a FloatingPointError that names the images.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._last: Callable[[], None] | None = None

    def add(self, step: int, losses: torch.Tensor, gradient_norm: torch.Tensor, batches: Sequence[Sequence[str]]):
        """Look at the step before this one, and keep this one for later.

        Args:
            step: its number, for the message.
            losses: (B,), of this process's batches of the step.
            gradient_norm: scalar, of all processes' gradients.
            batches: the images' ids of each batch.
        """
        values = torch.cat([losses.float(), gradient_norm.detach().float().reshape(1)]).to(self.accelerator.device)
        read = copy_to_host(self.accelerator.gather(values))
        self.finish()
        self._last = lambda: self._look(step, read(), batches)

    def finish(self) -> None:
        """Look at the last step, unless that was done: before anything of it is saved, scored or logged."""
        last, self._last = self._last, None
        if last is not None:
            last()

    def _look(self, step: int, values: torch.Tensor, batches: Sequence[Sequence[str]]) -> None:
        if torch.isfinite(values).all():
            return
        *losses, norm = values.view(self.accelerator.num_processes, -1)[self.accelerator.process_index].tolist()
        bad = [(loss, list(ids)) for loss, ids in zip(losses, batches, strict=True) if not math.isfinite(loss)]
        if bad_anywhere := gather_object(bad):
            value, what = bad_anywhere[0][0], "loss"
            images = [name for _, ids in bad_anywhere for name in ids]
        else:
            value, what = norm, "gradient's norm"
            images = gather_object([name for ids in batches for name in ids])
        raise FloatingPointError(
            f"the {what} is {value} at step {step} on images {', '.join(images)}. Look at these images, or try a "
            "lower learning_rate"
        )


def copy_to_host(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start a copy to the host; what is returned waits for it. Work that a GPU is given meanwhile goes on."""
    if tensor.device.type != "cuda":
        return tensor.cpu
    copy, done = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
    done.record()

    def read() -> torch.Tensor:
        done.synchronize()
        return copy

    return read


def require_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse to save what is not finite: a FloatingPointError names the first few tensors."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    bad = [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise FloatingPointError(
            f"{len(bad)} of {len(tensors)} trained tensors are not finite, among them {', '.join(bad[:_NAMED])}: they "
            "are not saved. Try a lower learning_rate"
        )
