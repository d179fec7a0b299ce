"""A moving average of the weights: steadier than any single step, at the cost of one more copy of what is trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate.utils import broadcast


class WeightAverage:
    """The exponential moving average of a network's trained tensors (Polyak and Juditsky 1992; Tarvainen and Valpola
    2017, arXiv 1703.01780).

    After each optimizer step `average <- d average + (1 - d) weights`, with `d = min(decay, (1 + step) / (10 + step))`:
    early steps, when the weights still move far, are forgotten soon. Integers are left alone.

    Args:
        tensors: the trained tensors by name, as the network holds them (not copies); they are read at every update.
        decay: d in the long run, in [0, 1); the average reaches back over about 1 / (1 - decay) steps.

    Attributes:
        tensors: the averages by name; while they are applied, the network's own weights.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], decay: float):
        averaged = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
        self.decay = decay
        self.tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in averaged.items()}
        self._live = list(averaged.values())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after an optimizer step; `step` is the number of steps before it."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), self._live, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network with the averages in place of its weights, which come back to the bit, whatever happens.

        Processes that train together all take the first one's: their weights are equal anyway, but the statistics of
        a normalisation are those of each one's own batches.
        """
        broadcast(list(self.tensors.values()))
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        averages = list(self.tensors.values())
        kept = [tensor.clone() for tensor in averages]
        torch._foreach_copy_(averages, self._live)
        torch._foreach_copy_(self._live, kept)
