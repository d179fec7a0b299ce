"""What each class has of its own: a hypernetwork of SAM's decoder, and a map of the detail branch's correction.

The tensors of all classes are stacked. So an adapter's file has the same names for every number of classes, and what
loads it has only to change the first dimension of what takes them.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization


class StackedLinear(nn.Module):
    """One linear layer a class, (B, R, C_in) -> (B, R, C_out)."""

    def __init__(self, rows: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(rows, out_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bri,roi->bro", features, self.weight) + self.bias


class ClassMasks(nn.Module):
    """The hypernetworks of the second class and those after it: copies of SAM's first one at the start.

    Like that, they read the query of SAM's first mask token. A token a class would change SAM's mask: the tokens attend
    to each other.

    Args:
        first: SAM's first hypernetwork, whose form they have.
        num_labels: K. There are K - 1 of them.

    Shape:
        the query (B, C) -> weights (B, K - 1, C / 8) of the upscaled embedding, which give the masks
    """

    def __init__(self, first: nn.Module, num_labels: int):
        super().__init__()
        linears = _linears(first)
        self.layers = nn.ModuleList(
            StackedLinear(num_labels - 1, linear.in_features, linear.out_features) for linear in linears
        )

    def forward(self, query: torch.Tensor) -> torch.Tensor:
        *hidden, last = self.layers
        features = query[:, None].expand(-1, len(last.weight), -1)
        for layer in hidden:
            features = F.relu(layer(features))
        return last(features)

    def copy_first(self, first: nn.Module) -> None:
        """Make each a copy of SAM's first; tensors that transformers has just loaded stay."""
        for layer, linear in zip(self.layers, _linears(first), strict=True):
            initialization.copy_(layer.weight, linear.weight.expand_as(layer.weight))
            initialization.copy_(layer.bias, linear.bias.expand_as(layer.bias))


def _linears(hypernetwork: nn.Module) -> list[nn.Linear]:
    return [hypernetwork.proj_in, *hypernetwork.layers, hypernetwork.proj_out]


def set_rows(module: nn.Module, rows: int) -> None:
    """Give each parameter so many rows, in its first dimension: copies of its only one, or unset memory."""
    for part in module.modules():
        for name, tensor in part.named_parameters(recurse=False):
            shape = (rows, *tensor.shape[1:])
            stacked = tensor.detach().expand(shape).clone() if len(tensor) == 1 else tensor.new_empty(shape)
            setattr(part, name, nn.Parameter(stacked, requires_grad=tensor.requires_grad))
    if isinstance(module, nn.Conv2d):
        module.out_channels = rows
