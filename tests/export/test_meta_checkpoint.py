import pytest
import torch
import torch.nn.functional as F

from topolora_hf.commands.convert import ConvertArguments, convert
from topolora_hf.network.meta_checkpoint import convert_meta_tensors
from topolora_hf.network.segmenter import TopoSamForSegmentation


@pytest.fixture
def checkpoint(meta_sam, tmp_path):
    """(its shape, its tensors, the file)"""
    shape = meta_sam.Shape()
    tensors = meta_sam.tensors(shape)
    torch.save(tensors, tmp_path / "sam_vit_s.pth")
    return shape, tensors, tmp_path / "sam_vit_s.pth"


@torch.no_grad()
def assert_gives(network, tiles: torch.Tensor, expected: torch.Tensor) -> None:
    logits = network.double().eval()(tiles).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_metas_file_gives_metas_logits(checkpoint, meta_sam, tmp_path):
    shape, tensors, file = checkpoint
    tiles = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)).double()
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    expected = F.interpolate(meta_sam.logits(tensors, tiles, shape), (96, 96), mode="bilinear", align_corners=False)
    assert_gives(TopoSamForSegmentation.from_pretrained(file), tiles, expected)

    directory = convert(ConvertArguments(str(file), str(tmp_path / "base")))
    assert_gives(TopoSamForSegmentation.from_pretrained(directory), tiles, expected)


def test_metas_file_is_a_base_at_any_size(checkpoint):
    _, tensors, file = checkpoint
    network = TopoSamForSegmentation.from_pretrained(file, image_size=64, tile_size=48, detail_channels=8)
    assert (network.config.image_size, network.config.tile_size, network.config.detail_channels) == (64, 48, 8)
    assert network(torch.zeros(1, 3, 48, 48)).logits.shape == (1, 1, 48, 48)
    stored = tensors["image_encoder.blocks.0.attn.qkv.weight"]
    assert torch.equal(network.sam.vision_encoder.layers[0].attn.qkv.weight, stored)
    assert network.name_or_path == str(file)


@pytest.mark.parametrize(
    ("hidden", "depth", "heads", "global_layers"),
    [(768, 12, 12, (2, 5, 8, 11)), (1024, 24, 16, (5, 11, 17, 23)), (1280, 32, 16, (7, 15, 23, 31))],
    ids=["vit_b", "vit_l", "vit_h"],
)
def test_the_shape_of_each_stock_sam_is_seen(meta_sam, hidden, depth, heads, global_layers):
    shape = meta_sam.Shape(hidden, depth, heads, global_layers, 64, 14, 256, 2048, 256)
    tensors = {name: torch.empty(size, device="meta") for name, size in meta_sam.shapes(shape).items()}
    config, converted = convert_meta_tensors(tensors, "sam.pth")
    vision = config.vision_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (hidden, depth, heads)
    assert tuple(vision.global_attn_indexes) == global_layers
    assert (vision.image_size, vision.window_size, vision.mlp_dim) == (1024, 14, 4 * hidden)
    assert len(converted) == len(tensors) + 1  # the positional encoding has two names


def test_whatever_does_not_fit_is_named(checkpoint):
    _, tensors, _ = checkpoint
    wrong = dict(tensors)
    del wrong["mask_decoder.iou_token.weight"]
    wrong["image_encoder.blocks.0.attn.gate"] = torch.zeros(1)
    wrong["image_encoder.neck.3.bias"] = torch.zeros(5)
    with pytest.raises(ValueError) as error:
        convert_meta_tensors(wrong, "mine.pth")
    for words in (
        "mine.pth",
        "missing mask_decoder.iou_token.weight",
        "unexpected image_encoder.blocks.0.attn.gate",
        "image_encoder.neck.3.bias has shape (5,), expected (32,)",
    ):
        assert words in str(error.value)


def test_another_networks_file_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "unet.pth")
    with pytest.raises(ValueError, match="unet.pth is not a checkpoint of Meta's SAM.*image_encoder.pos_embed"):
        TopoSamForSegmentation.from_pretrained(tmp_path / "unet.pth")
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        TopoSamForSegmentation.from_pretrained(tmp_path / "nowhere.pth")


class Touch:
    """Code in a pickle."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"image_encoder.pos_embed": Touch(tmp_path / "touched")}, tmp_path / "sam.pth")
    with pytest.raises(ValueError, match="sam.pth cannot be read as a checkpoint of tensors"):
        TopoSamForSegmentation.from_pretrained(tmp_path / "sam.pth")
    assert not (tmp_path / "touched").exists()


def test_half_a_file_is_refused(checkpoint):
    *_, file = checkpoint
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match="sam_vit_s.pth cannot be read"):
        TopoSamForSegmentation.from_pretrained(file)
