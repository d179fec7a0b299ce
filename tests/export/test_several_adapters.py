"""Several adapters on one base: switching is exact and quick, and costs no more memory than their tensors."""

import statistics
import time

import pytest
import torch
from safetensors.torch import load_file

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.network.configuration import TopoSamConfig
from topolora_hf.network.segmenter import TopoSamForSegmentation

TILES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model.eval()(TILES).logits


def tensor_bytes(model: torch.nn.Module) -> int:
    """Of all parameters and buffers, memory that is shared counted once."""
    storages = (tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers()))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def adapter_bytes(directory) -> int:
    tensors = load_file(directory / "adapter_model.safetensors")
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def median_switch(model, names, switches: int = 50) -> float:
    """Seconds."""
    times = []
    for number in range(switches):
        start = time.perf_counter()
        model.set_adapter(names[number % len(names)])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def test_logits_and_settings_follow_the_active_adapter(make_adapter, stock_sam):
    vessels, vessels_directory = make_adapter("topolora", stock_sam(), seed=1)
    polyps, polyps_directory = make_adapter("topolora", stock_sam(), seed=2, image_size=32)
    settings = AdapterSettings.from_pretrained(polyps_directory)
    settings.threshold, settings.view = 0.3, "full"
    settings.save(polyps_directory)

    model = load_adapter(vessels_directory, base=stock_sam(), adapter_name="vessels")
    before = tensor_bytes(model)
    model.load_adapter(polyps_directory, adapter_name="polyps")
    assert tensor_bytes(model) - before <= adapter_bytes(polyps_directory)
    for _ in range(2):
        model.set_adapter("polyps")
        assert torch.equal(logits_of(model), logits_of(polyps))
        assert (model.adapter_settings.threshold, model.adapter_settings.view) == (0.3, "full")
        assert model.adapter_settings.image_size == 32
        model.set_adapter("vessels")
        assert torch.equal(logits_of(model), logits_of(vessels))
        assert (model.adapter_settings.threshold, model.adapter_settings.view) == (0.5, "tiles")


def test_an_adapter_added_for_training_has_no_settings_yet(make_adapter, stock_sam):
    _, directory = make_adapter("topolora", stock_sam())
    model = load_adapter(directory, base=stock_sam())
    model.add_adapter("new", model.peft_config["default"])
    model.set_adapter("new")
    assert model.adapter_settings is None


@pytest.mark.slow
def test_on_vit_b_a_second_adapter_adds_no_more_than_itself(fill_with_random_weights, tmp_path):
    sizes = {"image_size": 64, "tile_size": 64}
    base = fill_with_random_weights(TopoSamForSegmentation(TopoSamConfig(**sizes)))
    base.save_pretrained(tmp_path / "base")
    directories = [tmp_path / "vessels", tmp_path / "polyps"]
    model = create_adapter(base, "topolora")
    for directory in directories:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn(parameter.shape))
        save_adapter(model, AdapterSettings(base="base", **sizes), directory)
    tiles = torch.randn(1, 3, 64, 64)
    expected = []
    for directory in directories:
        with torch.no_grad():
            expected.append(load_adapter(directory, base=str(tmp_path / "base"))(tiles).logits)

    model = load_adapter(directories[0], base=str(tmp_path / "base"), adapter_name="vessels")
    before = tensor_bytes(model)
    model.load_adapter(directories[1], adapter_name="polyps")
    added, of_adapter = tensor_bytes(model) - before, adapter_bytes(directories[1])
    switch = median_switch(model, ["polyps", "vessels"])
    print(f"switch {1000 * switch:.2f} ms; {added:,} bytes added, {of_adapter:,} in the file, {before:,} before")
    assert added <= of_adapter
    for name, logits in zip(("vessels", "polyps"), expected, strict=True):
        model.set_adapter(name)
        with torch.no_grad():
            assert torch.equal(model(tiles).logits, logits)
