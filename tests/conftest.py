"""Shared fixtures: small stock SAM checkpoints and adapters, made on the spot. No test uses the network."""

import copy
import gc
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MATPLOTLIBRC"] = str(Path(__file__).parent)  # of processes that tests start, too

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from transformers import SamConfig, SamModel

from benchmark.networks import SMALL_VISION
from topolora_hf.adapter_format.presets import preset_network_settings
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.training import results, scoring

SAM_SHAPES = {
    "small": SMALL_VISION,
    # ViT-B but for depth and image size.
    "vit_b_shallow": {"num_hidden_layers": 2, "global_attn_indexes": [1], "image_size": 256},
    "vit_b": {},
}


def pytest_collection_finish():
    """What was imported stays: a collection of garbage that looks through it takes longer than many a test."""
    gc.collect()
    gc.freeze()


def _sam_config(shape: str, image_size: int | None = None) -> SamConfig:
    vision = dict(SAM_SHAPES[shape])
    vision["image_size"] = size = image_size or vision.get("image_size", 1024)
    width = vision.get("output_channels", 256)
    prompt = {"hidden_size": width, "image_size": size, "image_embedding_size": size // 16}
    decoder = {"hidden_size": width}
    if shape == "small":
        decoder |= {"mlp_dim": 64, "iou_head_hidden_dim": 32}
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


@torch.no_grad()
def _fill_with_random_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter far from zero (SAM's own initialisation leaves relative positions and pos_embed at zero)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            is_norm_weight = "norm" in name and name.endswith("weight")
            parameter.copy_(0.2 * noise + (1 if is_norm_weight else 0))
        elif (
            "rel_pos" in name or "pos_embed" in name or name.endswith(("embed.weight", "token.weight", "tokens.weight"))
        ):
            parameter.copy_(noise)
        else:
            gain = 3 if "hypernetworks" in name else 1  # of large logits
            parameter.copy_(gain * noise / parameter.shape[1:].numel() ** 0.5)
    return module


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """Runs and scores end without the drawing of their pictures, which takes most of the time of a short one."""
    for name in ("samples", "score_distribution", "reliability", "precision_recall", "best_and_worst"):
        patch.setattr(scoring, f"save_{name}", lambda *_: None)
    patch.setattr(results, "save_curves", lambda *_: None)


@pytest.fixture
def no_pictures(monkeypatch):
    without_pictures(monkeypatch)


@pytest.fixture
def one_thread():
    """Sums in one order whichever way a layer is computed: for what must be equal to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sam_config():
    """`sam_config(shape, image_size=None)`: the configuration of a stock SAM of a shape in `SAM_SHAPES`."""
    return _sam_config


@pytest.fixture(scope="session")
def fill_with_random_weights():
    """`fill_with_random_weights(module, seed=0)`, in place: all parameters far from zero."""
    return _fill_with_random_weights


@pytest.fixture(scope="session")
def stock_sam(tmp_path_factory):
    """`stock_sam(shape)`: a directory that `SamModel.save_pretrained` wrote, with random weights."""
    directories = {}

    def directory(shape: str = "small") -> str:
        if shape not in directories:
            directories[shape] = str(tmp_path_factory.mktemp("sam") / f"stock-sam-{shape}")
            _fill_with_random_weights(SamModel(_sam_config(shape))).save_pretrained(directories[shape])
        return directories[shape]

    return directory


@pytest.fixture(scope="session")
def small_network(stock_sam):
    """`small_network(**settings)`: a network on the small stock SAM, tiles of 48 pixels enlarged to its 64."""
    networks = {}

    def make(**settings) -> TopoSamForSegmentation:
        key = tuple(sorted(settings.items()))
        if key not in networks:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                networks[key] = TopoSamForSegmentation.from_pretrained(stock_sam(), **{"tile_size": 48, **settings})
        return copy.deepcopy(networks[key])

    return make


@pytest.fixture(scope="session")
def off_its_start():
    """`off_its_start(model, scale, seed=0)`: the model, with noise added to every trained weight."""

    @torch.no_grad()
    def move(model: torch.nn.Module, scale: float, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
        return model

    return move


@pytest.fixture(scope="session")
def adapters_of_the_session(tmp_path_factory, off_its_start):
    """As `make_adapter`, but what it gives is shared: to be read, not changed."""
    made = {}

    def make(preset: str, base: str, seed: int, **settings):
        key = preset, base, seed, tuple(sorted(settings.items()))
        if key not in made:
            settings = {"image_size": 64, "tile_size": 48, **preset_network_settings(preset), **settings}
            network = TopoSamForSegmentation.from_pretrained(base, **settings)
            model = off_its_start(create_adapter(network, preset), 0.05, seed)
            directory = tmp_path_factory.mktemp("adapters") / f"adapter-{preset}-{seed}"
            save_adapter(model, AdapterSettings.of_network(network, preset=preset), directory)
            made[key] = model.eval(), directory
        return made[key]

    return make


@pytest.fixture
def make_adapter(adapters_of_the_session, tmp_path):
    """`make_adapter(preset, base, seed, **settings)` -> (an adapter off its start, in eval mode; its directory)."""

    def make(preset: str = "topolora", base: str = "topolora_hf/tiny", seed: int = 0, **settings):
        model, directory = adapters_of_the_session(preset, base, seed, **settings)
        copied = shutil.copytree(directory, tmp_path / directory.name, dirs_exist_ok=True)
        return copy.deepcopy(model), copied

    return make


@pytest.fixture(autouse=True)
def fresh_accelerate_state():
    """Accelerate keeps the precision and the loaders of one run for the next in the same process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
