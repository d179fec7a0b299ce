import pytest
import torch

from topolora_hf import TopoSamForSegmentation
from topolora_hf.network import TINY, tiny_config


def test_tiny_is_small_and_of_the_form_that_it_says():
    network = TopoSamForSegmentation.from_pretrained(TINY)
    assert sum(parameter.numel() for parameter in network.sam.parameters()) < 8_000_000
    assert network.config.vision_config.output_channels == network.config.mask_decoder_config.hidden_size == 128
    assert network.config.image_size == network.config.tile_size == 256
    assert network.name_or_path == TINY and not network.training


def test_tiny_is_the_same_whatever_the_global_seed():
    torch.manual_seed(1)
    first = TopoSamForSegmentation.from_pretrained(TINY).sam.state_dict()
    torch.manual_seed(2)
    second = TopoSamForSegmentation.from_pretrained(TINY, image_size=64, detail_channels=0).sam.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name


def test_tiny_weights_are_these():
    """An adapter on tiny fits only the tiny it was trained on: a change of the weights must be noticed."""
    sam = TopoSamForSegmentation.from_pretrained(TINY).sam
    total = sum(parameter.double().abs().sum().item() for parameter in sam.parameters())
    assert total == pytest.approx(287659.7217269926, rel=1e-9)


def test_tiny_lets_features_through():
    network = TopoSamForSegmentation.from_pretrained(TINY)
    tiles = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding = network._encode(tiles)
        logits = network(tiles).logits
    assert 0.1 < embedding.std() < 10 and 0.05 < logits.std() < 20
    assert (embedding[0] - embedding[1]).abs().mean() > 0.1, "two images, two embeddings"
    assert (embedding[0, :, 0, 0] - embedding[0, :, 8, 8]).abs().mean() > 0.1, "two places, two features"


def test_settings_and_loading_keywords_reach_tiny():
    network = TopoSamForSegmentation.from_pretrained(
        TINY, image_size=64, num_labels=2, dtype=torch.bfloat16, attn_implementation="eager", revision=None
    )
    assert network.dtype == torch.bfloat16 and network.config._attn_implementation == "eager"
    assert (network.config.image_size, network.config.tile_size, network.config.num_labels) == (64, 64, 2)
    assert tiny_config(image_size=64).vision_config.image_size == 256


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="topolora_hf/tiny takes no imagesize"):
        TopoSamForSegmentation.from_pretrained(TINY, imagesize=64)
