"""A small base by its public name, and ways into it that several files of tests take."""

import copy
from functools import cache

import torch

from topolora_hf.adapters.loading import load_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation

TILES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
BASE = "stock-sam-small"


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model.eval()(TILES).logits


@cache
def _base(**form) -> TopoSamForSegmentation:
    return TopoSamForSegmentation.from_pretrained(BASE, tile_size=48, **form)


def base(**form) -> TopoSamForSegmentation:
    """A base of one's own; the working directory must be that of `BASE`."""
    return copy.deepcopy(_base(**form))


def into_base(given):
    network = base()
    network.load_adapter(given)
    return network


def over_itself(given):
    model = load_adapter(given, is_trainable=True)
    model.load_adapter(given, "default", is_trainable=True)
    return model
