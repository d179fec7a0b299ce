"""Checkpoints in the layout of the paper's authors' code, with random weights."""

import pytest
import torch
import torch.nn.functional as F

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.commands.convert import ConvertArguments, convert
from topolora_hf.export.seglab import convert_seglab_checkpoint

RANK, ALPHA, TILE = 5, 16, 40


@pytest.fixture
def seglab(meta_sam, tmp_path):
    """(shape of its SAM, its tensors without `net.`, the .ckpt as a dict; Meta's file of the base)"""
    shape = meta_sam.Shape()
    base = meta_sam.tensors(shape, seed=0)
    torch.save(base, tmp_path / "sam.pth")
    sam = {**base, **{name: w for name, w in meta_sam.tensors(shape, 1).items() if name.startswith("mask_decoder.")}}
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name, tensor in sam.items():
        module, _, kind = name.rpartition(".")
        if not module.endswith((".mlp.lin1", ".mlp.lin2")) or not name.startswith("image_encoder."):
            tensors[name] = tensor
            continue
        tensors[f"{module}.linear.{kind}"] = tensor
        if kind == "weight":
            n_out, n_in = tensor.shape
            tensors[f"{module}.lora_A"] = torch.randn(RANK, n_in, generator=generator) / n_in**0.5
            tensors[f"{module}.lora_B"] = 0.1 * torch.randn(n_out, RANK, generator=generator)
    c = shape.width
    tensors["adapter.dw.weight"] = torch.randn(c, 1, 3, 3, generator=generator) / 3
    tensors["adapter.pw1.weight"] = torch.randn(c, c, 1, 1, generator=generator) / c**0.5
    tensors["adapter.pw2.weight"] = torch.randn(c, c, 1, 1, generator=generator) / c**0.5
    for name, start in (("weight", 1), ("bias", 0), ("running_mean", 0)):
        tensors[f"adapter.norm.{name}"] = start + 0.3 * torch.randn(c, generator=generator)
    tensors["adapter.norm.running_var"] = 0.5 + torch.rand(c, generator=generator)
    tensors["adapter.norm.num_batches_tracked"] = torch.tensor(7)
    state = {f"net.{n}" if n.startswith("adapter.") else f"net.sam.{n}": tensor for n, tensor in tensors.items()}
    settings = {
        "model": {"sam_type": "vit_b", "lora": {"enabled": True, "r": RANK, "alpha": ALPHA, "dropout": 0.0}},
        "dataset": {"name": "drive", "size": TILE},
    }
    checkpoint = {"epoch": 3, "global_step": 12, "state_dict": state, "hyper_parameters": settings}
    return shape, tensors, checkpoint, str(tmp_path / "sam.pth")


def authors_logits(meta_sam, tensors, tiles, shape) -> torch.Tensor:
    """(B, 3, T, T) tiles with ImageNet's normalisation, as their `SAMPEFTNet.forward` takes them."""
    pixels = (tiles * per_channel(0.229, 0.224, 0.225) + per_channel(0.485, 0.456, 0.406)).clamp(0, 1) * 255
    pixels = F.interpolate(pixels, (shape.image_size,) * 2, mode="bilinear", align_corners=False)
    pixels = (pixels - per_channel(123.675, 116.28, 103.53)) / per_channel(58.395, 57.12, 57.375)
    masks = meta_sam.logits(tensors, pixels, shape, lora_scaling=ALPHA / RANK)
    return F.interpolate(masks, tiles.shape[-2:], mode="bilinear", align_corners=False)


def tiles_of_a_picture() -> torch.Tensor:
    picture = torch.rand(2, 3, TILE, TILE, generator=torch.Generator().manual_seed(3)).double()
    return (picture - per_channel(0.485, 0.456, 0.406)) / per_channel(0.229, 0.224, 0.225)


def per_channel(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)


@torch.no_grad()
def test_the_adapter_gives_the_authors_logits(seglab, meta_sam, tmp_path):
    shape, tensors, checkpoint, base = seglab
    torch.save(checkpoint, tmp_path / "best.ckpt")
    convert(ConvertArguments(str(tmp_path / "best.ckpt"), str(tmp_path / "adapter"), base))
    model = load_adapter(tmp_path / "adapter", base=base).double()
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    tiles = tiles_of_a_picture()
    expected = authors_logits(meta_sam, tensors, tiles, shape)
    largest = expected.abs().max().item()
    torch.testing.assert_close(model(tiles).logits, expected, rtol=0, atol=1e-10)

    # Each of the three trained parts counts.
    for part in ("lora_B", "adapter.pw2", "mask_decoder.mask_tokens"):
        without = {name: torch.zeros_like(w) if part in name else w for name, w in tensors.items()}
        assert (authors_logits(meta_sam, without, tiles, shape) - expected).abs().max() > 0.01 * largest

    settings = AdapterSettings.from_pretrained(tmp_path / "adapter")
    assert (settings.base, settings.preset, settings.dataset) == ("sam.pth", "seglab", "drive")
    assert (settings.image_size, settings.tile_size, settings.detail_channels) == (96, TILE, 0)
    assert model.peft_config["default"].r == RANK and model.peft_config["default"].lora_alpha == ALPHA


def convert_edited(checkpoint, tmp_path, base):
    torch.save(checkpoint, tmp_path / "best.ckpt")
    try:
        convert_seglab_checkpoint(tmp_path / "best.ckpt", tmp_path / "adapter", base)
    finally:
        assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "sam.pth"]


def test_another_base_than_it_was_trained_on_is_refused(seglab, tmp_path):
    *_, checkpoint, base = seglab
    checkpoint["state_dict"]["net.sam.image_encoder.neck.0.weight"] += 1e-3
    with pytest.raises(AdapterMismatchError, match="another SAM than .*1 frozen tensors differ.*neck.conv1.weight"):
        convert_edited(checkpoint, tmp_path, base)


def test_a_checkpoint_of_other_parts_is_refused(seglab, tmp_path):
    *_, checkpoint, base = seglab
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if not name.startswith("net.adapter")}
    with pytest.raises(ValueError, match="best.ckpt was trained without adapter"):
        convert_edited(checkpoint, tmp_path, base)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.sam.image_encoder.blocks.2.mlp.lin1.lora_B", "missing sam.vision_encoder.layers.2.mlp.lin1.lora_B"),
        ("net.adapter.norm.running_var", "missing spatial_adapter.modules_to_save.default.refine.2.running_var"),
        ("net.sam.mask_decoder.iou_token.weight", "missing mask_decoder.iou_token.weight"),
    ],
)
def test_a_tensor_that_is_not_there_is_named(seglab, tmp_path, name, message):
    *_, checkpoint, base = seglab
    del checkpoint["state_dict"][name]
    with pytest.raises((AdapterMismatchError, ValueError), match=message):
        convert_edited(checkpoint, tmp_path, base)


@pytest.mark.parametrize("name", ["loss.weight", "net.head.weight", "net.adapter.pw3.weight"])
def test_a_tensor_of_no_use_is_named(seglab, tmp_path, name):
    *_, checkpoint, base = seglab
    checkpoint["state_dict"][name] = torch.zeros(1)
    with pytest.raises(ValueError, match=f"the authors' code has not: {name}"):
        convert_edited(checkpoint, tmp_path, base)


def test_what_is_no_checkpoint_of_theirs_is_refused(seglab, tmp_path):
    *_, checkpoint, base = seglab
    with pytest.raises(ValueError, match="best.ckpt does not say model.lora.alpha"):
        convert_edited({**checkpoint, "hyper_parameters": {"model": {}}}, tmp_path, base)
    with pytest.raises(ValueError, match="no checkpoint of the authors' code"):
        convert_edited({"state_dict": {"net.encoder.weight": torch.zeros(1)}}, tmp_path, base)


def test_a_directory_in_use_is_left_alone(seglab, tmp_path):
    *_, checkpoint, base = seglab
    torch.save(checkpoint, tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match="is not empty"):
        convert_seglab_checkpoint(tmp_path / "best.ckpt", tmp_path, base)
