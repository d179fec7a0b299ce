"""Networks of several classes: each map starts as the base's own, and none is made up from a base of several."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModel, SamModel

from topolora_hf.adapter_format.names import TINY, TINY_RANDOM, VIT_B_RANDOM
from topolora_hf.network.configuration import TopoSamConfig
from topolora_hf.network.segmenter import TopoSamForSegmentation


def tiles_of(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(network, side: int) -> torch.Tensor:
    return network.eval()(tiles_of(side)).logits


def assert_each_map_is(expected: torch.Tensor, logits: torch.Tensor, labels: int) -> None:
    """The one map `expected` in each of `logits`, within 1e-5 of the largest logit."""
    assert logits.shape == (len(expected), labels, *expected.shape[2:]) and expected.std() > 0.05
    largest = expected.abs().max().item()
    torch.testing.assert_close(logits, expected.expand_as(logits), rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("detail_channels", [0, 4])
@pytest.mark.parametrize("labels", [2, 6])
def test_each_class_starts_as_sams_first_mask(stock_sam, labels, detail_channels):
    sam = SamModel.from_pretrained(stock_sam(), attn_implementation="sdpa").eval()
    with torch.no_grad():
        expected = sam(pixel_values=tiles_of(64), multimask_output=False).pred_masks[:, 0]
    expected = F.interpolate(expected, (64, 64), mode="bilinear", align_corners=False)
    settings = {"num_labels": labels, "detail_channels": detail_channels, "attn_implementation": "sdpa"}
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), **settings)
    logits = logits_of(network, 64)
    assert_each_map_is(expected, logits, labels)
    assert torch.equal(logits[:, :1], expected), "the first class is SAM's own hypernetwork, to the bit"
    config = TopoSamConfig.from_pretrained(stock_sam(), num_labels=labels)
    by_config = TopoSamForSegmentation.from_pretrained(stock_sam(), config=config)
    assert_each_map_is(expected, logits_of(by_config, 64), labels)


def test_each_class_starts_as_the_map_of_a_base_with_a_trained_detail_branch(small_network, tmp_path):
    network = small_network()
    torch.nn.init.normal_(network.detail_branch.correction.weight)
    network.save_pretrained(tmp_path)
    for name, side, sizes in (
        (str(tmp_path), 48, {}),
        (TINY, 64, {"image_size": 64}),
        (TINY_RANDOM, 64, {"tile_size": 64}),
    ):
        expected = logits_of(TopoSamForSegmentation.from_pretrained(name, **sizes), side)
        several = TopoSamForSegmentation.from_pretrained(name, num_labels=3, **sizes)
        assert_each_map_is(expected, logits_of(several, side), 3)
        assert several.config.num_labels == several.config.form.num_labels == 3


@pytest.mark.slow
def test_each_class_starts_as_the_base_map_at_the_shape_of_vit_b():
    expected = logits_of(TopoSamForSegmentation.from_pretrained(VIT_B_RANDOM, image_size=256), 256)
    assert_each_map_is(
        expected, logits_of(TopoSamForSegmentation.from_pretrained(VIT_B_RANDOM, image_size=256, num_labels=3), 256), 3
    )


def test_the_settings_of_a_base_are_those_of_as_many_classes():
    network = TopoSamForSegmentation.from_pretrained(TINY, image_size=64, num_labels=3)
    settings = network.adapter_settings
    assert settings.labels == ("class1", "class2", "class3") and settings.fov_diameter
    assert settings.form == network.config.form


@pytest.mark.parametrize("form", [{}, {"detail_channels": 0}])
def test_a_whole_network_of_several_classes_reads_back_and_one_of_one_class_holds_no_more_than_before(
    small_network, fill_with_random_weights, tmp_path, form
):
    network = fill_with_random_weights(small_network(num_labels=3, **form))
    network.save_pretrained(tmp_path / "three")
    again, info = TopoSamForSegmentation.from_pretrained(tmp_path / "three", output_loading_info=True, **form)
    assert not info["unexpected_keys"] and not info["missing_keys"]
    assert torch.equal(logits_of(again, 48), logits_of(network, 48))
    assert logits_of(again, 48).std(dim=1).min() > 0, "three different maps"
    assert len(json.loads((tmp_path / "three" / "config.json").read_text())["id2label"]) == 3
    assert torch.equal(
        logits_of(TopoSamForSegmentation.from_pretrained(tmp_path / "three", num_labels=3), 48), logits_of(network, 48)
    )
    small_network(**form).save_pretrained(tmp_path / "one")
    assert not [name for name in load_file(tmp_path / "one" / "model.safetensors") if "class_masks" in name]


@pytest.mark.parametrize("form", [{}, {"detail_channels": 0}])
def test_a_whole_network_without_the_masks_of_its_classes_is_refused(small_network, tmp_path, form):
    small_network(num_labels=3, **form).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(file).items() if "class_masks" not in name}
    save_file(tensors, file, metadata={"format": "pt"})
    for load in (TopoSamForSegmentation.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match=f"{tmp_path} .*missing class_masks.layers.0.bias.* and 3 more"):
            load(tmp_path, **form)


@pytest.mark.parametrize("labels", [1, 2, 4])
def test_a_base_of_several_maps_is_given_no_other_number_of_classes(small_network, tmp_path, labels):
    small_network(num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=f"{tmp_path} has num_labels=3, got num_labels={labels}: only a base of one map"
    ):
        TopoSamForSegmentation.from_pretrained(tmp_path, num_labels=labels)


@pytest.mark.parametrize("labels", [0, -1, 1001, 2.0, "3", True])
def test_a_number_of_classes_that_no_network_has_is_refused(stock_sam, labels):
    for name in (stock_sam(), TINY):
        with pytest.raises((ValueError, TypeError), match="num_labels"):
            TopoSamForSegmentation.from_pretrained(name, num_labels=labels)


def test_every_class_learns_and_only_its_own(small_network):
    network = small_network(num_labels=3, detail_channels=4)
    network(tiles_of(48)).logits[:, 1].sum().backward()
    rows = [layer.weight.grad.abs().sum((1, 2)) > 0 for layer in network.class_masks.layers]
    assert all(row.tolist() == [True, False] for row in rows)
    assert (network.detail_branch.correction.weight.grad.abs().sum((1, 2, 3)) > 0).tolist() == [False, True, False]
    first = network.sam.mask_decoder.output_hypernetworks_mlps[0].proj_out.weight.grad
    assert first is None or not first.any()
