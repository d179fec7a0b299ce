"""One small adapter for all tests of prediction. None changes it: settings are given to each predictor."""

import numpy as np
import pytest
import torch

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation

TILE = 48


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def quick(one_thread):
    """Small networks are slower on several threads than on one."""


@pytest.fixture(scope="session")
def adapter(off_its_start):
    """Its predictions are neither all 0 nor all 1; its encoder sees 32 x 32 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny-random", image_size=32, tile_size=TILE)
        return off_its_start(create_adapter(network, "topolora"), 0.1).eval()


@pytest.fixture
def settings(adapter) -> AdapterSettings:
    return AdapterSettings.of_network(adapter.get_base_model())
