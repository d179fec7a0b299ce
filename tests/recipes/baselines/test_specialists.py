import json

import numpy as np
import pytest
import torch
from torch import nn

from baselines.deeplab import DeepLabV3Plus
from baselines.files import (
    is_specialist,
    load_specialist,
    save_specialist,
    specialist_settings,
)
from baselines.mask2former import semantic_logits
from baselines.networks import SPECIALISTS, build_specialist
from topolora_hf.data.intensity import IntensityScaling
from topolora_hf.inference.predictor import Predictor

EVERY = pytest.mark.parametrize("name", SPECIALISTS)


@pytest.fixture(scope="module")
def specialists():
    """One of each, as built from seed 0; no test changes its weights."""
    torch.manual_seed(0)
    return {name: build_specialist(name) for name in SPECIALISTS}


@pytest.fixture
def saved(tmp_path, specialists):
    """The small U-Net's directory, in whole-image view with settings of its own."""
    settings = specialist_settings(
        tile_size=48, view="whole", threshold=0.25, intensity=IntensityScaling(0.0, 1000.0, "sqrt"), dataset="crosses"
    )
    save_specialist(specialists["unet_small"], settings, tmp_path / "network")
    return tmp_path / "network"


@EVERY
@pytest.mark.parametrize("tile_size", [64, 72])
def test_logits_have_the_size_of_the_tile_at_any_batch_size(specialists, name, tile_size):
    model = specialists[name].eval()
    tiles = torch.randn(2, 3, tile_size, tile_size)
    with torch.inference_mode():
        both, alone = model(pixel_values=tiles).logits, model(pixel_values=tiles[:1]).logits
    assert both.shape == (2, 1, tile_size, tile_size)
    torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-4)


@EVERY
def test_every_parameter_is_trained(specialists, name):
    model = specialists[name].train()
    with torch.autocast("cpu", torch.bfloat16):  # as training runs by default, where the hardware has it
        logits = model(torch.randn(2, 3, 64, 64)).logits
    logits.float().square().mean().backward()
    untouched = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    model.zero_grad()
    assert not untouched


@EVERY
def test_statistics_of_batches_are_kept_over_several(specialists, name):
    """transformers' MobileNetV2 would keep 0.3 % of the past."""
    for module in specialists[name].modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == 0.1


def test_the_u_nets_have_the_size_they_are_called_by(specialists):
    sizes = {name: sum(p.numel() for p in specialists[name].parameters()) for name in ("unet", "unet_small")}
    assert sizes["unet"] == pytest.approx(2e6, rel=0.02)
    assert sizes["unet_small"] == pytest.approx(5e5, rel=0.02)


def test_deeplabs_decoder_brings_the_logits_to_a_quarter_of_the_tile():
    """transformers' network of that name has no decoder: it stays at a sixteenth."""
    network = DeepLabV3Plus().eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, 64, 64)).shape == (1, 1, 16, 16)


def test_the_semantic_logit_is_the_share_of_mask2formers_own_scores():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(2, 5, 3, generator=generator)
    masks = 3 * torch.randn(2, 5, 4, 6, generator=generator)
    # transformers' post_process_semantic_segmentation, without its resizing
    scores = torch.einsum("bqc,bqhw->bchw", classes.softmax(-1)[..., :-1], masks.sigmoid())
    probability = semantic_logits(classes, masks).sigmoid()
    torch.testing.assert_close(probability, scores[:, 1:] / scores.sum(1, keepdim=True))
    assert torch.equal(probability[:, 0] > 0.5, scores.argmax(1) == 1)


def test_the_semantic_logit_learns_where_every_score_is_zero():
    """Masks so far below zero that their sigmoid is 0 in float32, and with it the whole score."""
    classes = torch.tensor([[[0.0, 200.0, -200.0], [200.0, 0.0, -200.0]]], requires_grad=True)
    masks = torch.full((1, 2, 1, 1), -500.0, requires_grad=True)
    logit = semantic_logits(classes, masks)
    assert logit.item() == 0
    logit.sum().backward()
    assert masks.grad.flatten().tolist() == [1, -1]
    assert torch.isfinite(classes.grad).all()


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(ValueError, match="unknown specialist 'resnet': one of unet, unet_small, deeplabv3plus"):
        build_specialist("resnet")


def test_a_loaded_specialist_predicts_what_the_saved_one_does(saved, specialists):
    loaded = load_specialist(saved)
    settings = loaded.adapter_settings
    assert (settings.tile_size, settings.view, settings.threshold, settings.dataset) == (48, "whole", 0.25, "crosses")
    assert settings.intensity == IntensityScaling(0.0, 1000.0, "sqrt")
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    expected = Predictor(specialists["unet_small"], settings)(image)
    prediction = Predictor(loaded)(image)
    assert np.array_equal(prediction.probability, expected.probability)
    assert prediction.threshold == 0.25


def test_the_saved_settings_say_nothing_of_our_networks_parts(saved):
    values = json.loads((saved / "specialist.json").read_text())
    assert values["network"] == "unet_small"
    assert not {"base", "preset", "image_size", "detail_channels", "use_sam"} & values.keys()
    assert is_specialist(saved) and not is_specialist(saved.parent)


@pytest.mark.parametrize("name", ["specialist.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"network holds no {name}"):
        load_specialist(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "resnet"}, "specialist.json: unknown network 'resnet': one of unet"),
        ({"network": "unet"}, r"model.safetensors does not fit the network unet: .*size mismatch"),
        ({"preset": "paper"}, "specialist.json: a specialist has no settings preset; it has .*tile_size"),
        ({"intensity": {"low": 0}}, "specialist.json: .*high"),
    ],
)
def test_a_settings_file_that_does_not_fit_is_named(saved, change, message):
    values = json.loads((saved / "specialist.json").read_text())
    (saved / "specialist.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_specialist(saved)


@pytest.mark.parametrize("text", ["{", "[]", '{"network": "unet"}'])
def test_a_settings_file_without_settings_is_named(saved, text):
    (saved / "specialist.json").write_text(text)
    with pytest.raises(ValueError, match="specialist.json"):
        load_specialist(saved)


def test_weights_that_are_no_safetensors_are_named(saved):
    (saved / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match="model.safetensors cannot be read as safetensors"):
        load_specialist(saved)
