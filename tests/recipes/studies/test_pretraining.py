from pathlib import Path

import numpy as np
import pytest
import torch

import pretraining
from pretraining import BaseInPretraining, PretrainArguments, join_bases, pretrain
from topolora_hf.adapters.creation import create_adapter, unfreeze
from topolora_hf.network.segmenter import TopoSamForSegmentation

pytestmark = pytest.mark.usefixtures("no_pictures")

TILES = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def logits_of(network) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(TILES).logits


@pytest.fixture
def make_base(stock_sam, fill_with_random_weights, tmp_path):
    """`make_base(seed, **settings)`: the directory of a base with random weights in every part."""

    def make(seed: int, **settings) -> str:
        network = TopoSamForSegmentation.from_pretrained(stock_sam(), tile_size=48, **settings)
        fill_with_random_weights(network, seed=seed)
        network.save_pretrained(tmp_path / f"base{seed}")
        return str(tmp_path / f"base{seed}")

    return make


@pytest.fixture
def make_arguments(tmp_path, stock_sam, monkeypatch):
    """`make_arguments(**settings)`: two float32 steps on noise; `asked` holds what was asked of the data set."""
    asked = []

    def rows(count: int) -> list[dict]:
        random = np.random.default_rng(count)
        images = random.integers(0, 255, (count, 60, 60, 3), dtype=np.uint8)
        truth = {"valid_mask": np.ones((60, 60), bool)}
        return [
            {"id": str(number), "image": image, "mask": (image[None, ..., 0] > 127).astype(np.uint8), **truth}
            for number, image in enumerate(images)
        ]

    splits = {"train": rows(2), "validation": rows(1), "test": rows(3)}
    monkeypatch.setattr(pretraining, "load_segmentation_data", lambda spec: asked.append(spec) or splits)

    def make(**settings) -> PretrainArguments:
        few = {"base": stock_sam(), "output_dir": str(tmp_path / "run"), "tile_size": 48, "max_steps": 2}
        few |= {"batch_size": 2, "num_workers": 0, "num_threads": 1, "mixed_precision": "no"}
        return PretrainArguments(**{**few, **settings})

    make.asked = asked
    return make


@pytest.mark.parametrize(("settings", "context"), [({}, False), ({"detail_channels": 0}, True)])
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


def test_with_sam_dropout_every_second_tile_is_segmented_by_the_detail_branch_alone(make_base):
    base = make_base(1)
    network = BaseInPretraining.from_pretrained(base).train()
    together, alone = logits_of(network), logits_of(TopoSamForSegmentation.from_pretrained(base, use_sam=False))
    network.sam_dropout = 0.5
    assert torch.equal(logits_of(network), together)  # in evaluation
    with torch.no_grad():
        logits = network.train()(TILES).logits
    torch.testing.assert_close(logits[1::2], together[1::2])
    torch.testing.assert_close(logits[::2], alone[::2])
    with pytest.raises(ValueError, match="whole number of a batch's 4 tiles, got 0.3"):
        PretrainArguments(sam_dropout=0.3)


@pytest.mark.parametrize("preset", ["full", "detail_only"])
def test_pretraining_gives_a_base_in_half_precision_that_adapters_start_from(make_arguments, preset):
    args = make_arguments(preset=preset, sam_dropout=0.5 if preset == "full" else 0.0)
    metrics = pretrain(args)
    directory = Path(args.output_dir) / "network"
    trained = TopoSamForSegmentation.from_pretrained(directory, dtype="auto")
    assert trained.dtype == torch.float16 and metrics["n"] == 3
    assert trained.config.use_sam == (preset == "full")
    assert trained.config.architectures == ["TopoSamForSegmentation"]
    base, start = (TopoSamForSegmentation.from_pretrained(name) for name in (directory, args.base))
    weights = zip(base.sam.state_dict().values(), start.sam.state_dict().values(), strict=True)
    assert any(not torch.equal(one, other.half().float()) for one, other in weights) == (preset == "full")
    assert torch.equal(logits_of(create_adapter(base, "topolora" if preset == "full" else preset)), logits_of(base))


def test_a_detail_branch_comes_from_the_base_that_is_named(make_arguments, make_base):
    sam, detail = make_base(1), make_base(2)
    args = make_arguments(base=sam, detail_base=detail, learning_rate=1e-9, detail_learning_rate=1e-9)
    pretrain(args)
    network = TopoSamForSegmentation.from_pretrained(Path(args.output_dir) / "network")
    torch.testing.assert_close(logits_of(network), logits_of(join_bases(sam, detail)), atol=0.2, rtol=0)  # float16
    with pytest.raises(ValueError, match="detail_base goes with preset full"):
        make_arguments(preset="detail_only", detail_base=detail)


def test_pretraining_draws_the_kinds_it_is_told_to(make_arguments, monkeypatch):
    monkeypatch.setattr(pretraining, "train", lambda *_: {})
    monkeypatch.setattr(pretraining, "process_state", lambda: type("Other", (), {"is_main_process": False}))
    pretrain(make_arguments(kinds=["blobs", "blobs", "roads"], images=9, picture_size=77))
    (spec,) = make_arguments.asked
    assert (spec.kinds, spec.counts["train"], spec.image_size) == (("blobs", "blobs", "roads"), 9, 77)
    assert PretrainArguments().max_steps == 3000
    with pytest.raises(ValueError, match="dataset must be synthetic, got 'drive'"):
        PretrainArguments(dataset="drive")


def test_beside_a_frozen_sam_the_detail_branch_alone_is_trained(make_arguments):
    args = make_arguments(freeze_sam=True, sam_dropout=0.5)
    pretrain(args)
    trained, start = (
        TopoSamForSegmentation.from_pretrained(name).state_dict() for name in (f"{args.output_dir}/network", args.base)
    )
    changed = {
        name.split(".")[0] for name, tensor in start.items() if not torch.equal(trained[name], tensor.half().float())
    }
    assert "detail_branch" in changed and "sam" not in changed
    with pytest.raises(ValueError, match="freeze_sam goes with preset full"):
        make_arguments(freeze_sam=True, preset="detail_only")
