import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from baselines.deeplab import DeepLabV3Plus
from baselines.mask2former import semantic_logits
from baselines.networks import BASELINES, create_baseline, load_baseline
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.inference.predictor import Predictor

EVERY = pytest.mark.parametrize("name", BASELINES)


@pytest.fixture(scope="module")
def networks():
    """One of each, as built from seed 0; no test changes its weights."""
    torch.manual_seed(0)
    return {name: create_baseline(name) for name in BASELINES}


@pytest.fixture
def saved(tmp_path, networks):
    """The directory of the small U-Net, for full images, with settings of its own."""
    networks["unet_small"].adapter_settings = AdapterSettings(
        base="", tile_size=48, view="full", threshold=0.25, dataset="crosses"
    )
    networks["unet_small"].save_pretrained(tmp_path / "network")
    return tmp_path / "network"


@EVERY
def test_logits_have_the_size_of_the_tile_at_any_batch_size(networks, name):
    model = networks[name].eval()
    tiles = torch.randn(2, 3, 72, 72)  # Swin's windows of 8 do not divide its stages
    with torch.inference_mode():
        both, alone = model(pixel_values=tiles).logits, model(pixel_values=tiles[:1]).logits
    assert both.shape == (2, 1, 72, 72)
    torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-4)


def test_a_baseline_of_several_classes_has_a_map_a_class_and_is_loaded_with_them(tmp_path):
    model = create_baseline("unet_small", 2).eval()
    model.adapter_settings = AdapterSettings(base="", tile_size=48, labels=("artery", "vein"))
    model.save_pretrained(tmp_path)
    tiles = torch.randn(1, 3, 48, 48)
    with torch.inference_mode():
        logits = model(tiles).logits
        torch.testing.assert_close(load_baseline(tmp_path)(tiles).logits, logits)
    assert logits.shape == (1, 2, 48, 48)
    with pytest.raises(ValueError, match="mask2former has a single map, not 2"):
        create_baseline("mask2former", 2)


@EVERY
def test_every_parameter_is_trained(networks, name):
    model = networks[name].train()
    model(torch.randn(2, 3, 64, 64)).logits.square().mean().backward()
    untouched = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    model.zero_grad()
    assert not untouched


@EVERY
def test_statistics_of_batches_are_kept_over_several(networks, name):
    """transformers' MobileNetV2 would keep 0.3 % of the past."""
    for module in networks[name].modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == 0.1


def test_the_u_nets_have_the_size_they_are_called_by(networks):
    sizes = {name: sum(p.numel() for p in networks[name].parameters()) for name in ("unet", "unet_small", "nnunet")}
    assert sizes["unet"] == pytest.approx(2e6, rel=0.02)
    assert sizes["unet_small"] == pytest.approx(5e5, rel=0.02)
    assert sizes["nnunet"] == pytest.approx(3.35e7, rel=0.02)


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
    with pytest.raises(ValueError, match="unknown baseline 'resnet': one of unet, unet_small, nnunet, deeplabv3plus"):
        create_baseline("resnet")


def test_a_loaded_baseline_predicts_what_the_saved_one_does(saved, networks):
    loaded = load_baseline(saved)
    settings = loaded.adapter_settings
    assert (settings.tile_size, settings.view, settings.threshold, settings.dataset) == (48, "full", 0.25, "crosses")
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    expected, prediction = Predictor(networks["unet_small"])(image), Predictor(loaded)(image)
    assert np.array_equal(prediction.probability, expected.probability)
    assert prediction.thresholds == (0.25,)


@pytest.mark.parametrize("name", ["topolora_config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"network holds no {name}"):
        load_baseline(saved)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"baseline": "resnet"}, "model.safetensors: unknown baseline 'resnet': one of unet"),
        ({"baseline": "unet"}, "model.safetensors does not fit the network unet: .*size mismatch"),
        ({}, "model.safetensors: unknown baseline ''"),
    ],
)
def test_weights_of_another_network_are_named(saved, named, message):
    save_file(load_file(saved / "model.safetensors"), saved / "model.safetensors", metadata=named)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_baseline(saved)


def test_weights_that_are_no_safetensors_are_named(saved):
    (saved / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match="model.safetensors cannot be read as safetensors"):
        load_baseline(saved)
