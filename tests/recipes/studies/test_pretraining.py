from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretraining import PretrainArguments, pretrain
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.adapter_format.presets import LIVING_DECODER
from topolora_hf.adapters.creation import unfreeze
import pretraining
from pretraining import join_bases

TILES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def logits_of(network) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(TILES).logits


@pytest.fixture
def make_base(stock_sam, fill_with_random_weights, tmp_path):
    """`make_base(seed, **settings)`: the directory of a whole base with random weights in every part."""

    def make(seed: int, **settings) -> str:
        network = TopoSamForSegmentation.from_pretrained(stock_sam(), tile_size=48, **settings)
        fill_with_random_weights(network, seed=seed)
        network.save_pretrained(tmp_path / f"base{seed}")
        return str(tmp_path / f"base{seed}")

    return make


@pytest.mark.parametrize("settings", [{}, {"detail_channels": 0}])
@pytest.mark.parametrize("context", [False, True])
def test_joined_bases_start_with_the_sum_of_both_and_the_branch_can_learn_what_sam_saw(make_base, settings, context):
    sam, detail = make_base(1, **settings), make_base(2, detail_context=context)
    network = join_bases(sam, detail)
    masks = TopoSamForSegmentation.from_pretrained(sam, detail_channels=0)
    alone = TopoSamForSegmentation.from_pretrained(detail, use_sam=False)
    assert torch.equal(logits_of(network), logits_of(masks) + logits_of(alone))
    unfreeze(network.train())(TILES).logits.square().mean().backward()
    silenced = (network.detail_branch.fuse, network.detail_branch.fuse_context)
    assert all(layer.weight.grad.any() for layer in silenced)


def test_a_base_without_a_detail_branch_is_refused_where_one_is_to_be_taken(make_base):
    with pytest.raises(ValueError, match="base2 has no detail branch"):
        join_bases(make_base(1), make_base(2, detail_channels=0))


def test_a_whole_base_learns_in_every_part_that_reaches_the_logits(make_base):
    network = unfreeze(TopoSamForSegmentation.from_pretrained(make_base(1)).train())
    network(TILES).logits.square().mean().backward()
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert all(parameter.grad is not None for parameter in trained.values())
    parts = (
        "sam.vision_encoder.patch_embed",
        "spatial_adapter",
        "detail_branch.fuse_context",
        f"sam.{LIVING_DECODER[0]}",
    )
    for part in parts:
        assert any(name.startswith(part) for name in trained), part
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert any(name.startswith("sam.mask_decoder.iou_prediction_head") for name in frozen)


def test_preset_whole_makes_no_adapter(make_base):
    with pytest.raises(ValueError, match="preset 'whole' trains the base itself"):
        create_adapter(TopoSamForSegmentation.from_pretrained(make_base(1)), "whole")


@pytest.mark.parametrize("preset", ["whole", "detail_only"])
def test_pretraining_gives_a_base_in_half_precision_that_adapters_start_from(
    make_arguments, splits, monkeypatch, preset
):
    monkeypatch.setattr(pretraining, "load_segmentation_data", lambda spec: splits)
    few = {**vars(make_arguments()), "dataset": "synthetic", "preset": preset, "detail_channels": None}
    metrics = pretrain(PretrainArguments(**few))
    network = Path(few["output_dir"]) / "network"
    trained = TopoSamForSegmentation.from_pretrained(network, dtype="auto")
    assert trained.dtype == torch.float16 and metrics["n"] == len(splits["test"])
    assert trained.config.use_sam == (preset == "whole")
    base = TopoSamForSegmentation.from_pretrained(network, dtype=torch.float32)
    if preset == "whole":
        assert torch.equal(logits_of(create_adapter(base)), logits_of(base))
    else:
        adapter = load_adapter(Path(few["output_dir"]) / "adapter", base=few["base"])
        torch.testing.assert_close(logits_of(base), logits_of(adapter), atol=1e-2, rtol=1e-2)


def test_a_base_with_anothers_detail_branch_is_another_run(make_arguments, make_base, splits, monkeypatch):
    monkeypatch.setattr(pretraining, "load_segmentation_data", lambda spec: splits)
    settings = {**vars(make_arguments()), "dataset": "synthetic", "preset": "whole", "detail_channels": None}
    settings |= {"base": make_base(1), "detail_base": make_base(2), "learning_rate": 1e-9, "detail_learning_rate": 1e-9}
    pretrain(PretrainArguments(**settings))
    network = TopoSamForSegmentation.from_pretrained(Path(settings["output_dir"]) / "network")
    form = {"image_size": 64}
    expected = logits_of(join_bases(settings["base"], settings["detail_base"], **form))
    torch.testing.assert_close(logits_of(network), expected, atol=5e-2, rtol=0)  # float16
    with pytest.raises(ValueError, match="other settings: base was .*base1', is .*base3'"):
        pretrain(PretrainArguments(**{**settings, "base": make_base(3)}))


def test_pretraining_draws_the_kinds_it_is_told_to(make_arguments, splits, monkeypatch):
    asked = []
    monkeypatch.setattr(pretraining, "load_segmentation_data", lambda spec: asked.append(spec) or splits)
    settings = {**vars(make_arguments()), "dataset": "synthetic", "preset": "whole", "detail_channels": None}
    pretrain(PretrainArguments(**settings, kinds=["blobs", "blobs", "roads"]))
    assert asked[0].kinds == ("blobs", "blobs", "roads")


def test_pretraining_may_be_told_its_epochs():
    assert PretrainArguments().max_steps == 3000
    assert PretrainArguments(epochs=2).max_steps is None
    assert replace(PretrainArguments(epochs=2), base="tiny").epochs == 2


def test_pretraining_on_anything_but_synthetic_images_is_refused():
    with pytest.raises(ValueError, match="synthetic images only, got dataset 'drive'"):
        PretrainArguments(dataset="drive")
    with pytest.raises(ValueError, match="detail_base goes with preset whole"):
        replace(PretrainArguments(), preset="detail_only", detail_base="runs/detail/network")
