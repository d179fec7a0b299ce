import pytest
import torch

from topolora_hf.adapter_format.names import TINY, TINY_RANDOM, TINY_REGIONS, VESSELS, VIT_B_RANDOM, VIT_S_RANDOM
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.overlap import dice
from topolora_hf.network.configuration import TopoSamConfig
from topolora_hf.network.detail_branch import DetailBranch
from topolora_hf.network.embedded import _CONFIGS, tiny_config
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.synthetic import draw_synthetic


@pytest.mark.parametrize("name", [TINY, TINY_REGIONS, TINY_RANDOM])
def test_an_embedded_base_is_of_the_form_that_it_says_whatever_the_global_seed(name):
    torch.manual_seed(1)
    network = TopoSamForSegmentation.from_pretrained(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_571_297
    assert network.config.vision_config.output_channels == network.config.mask_decoder_config.hidden_size == 128
    assert network.config.image_size == network.config.tile_size == 256
    assert network.name_or_path == name and not network.training and network.dtype == torch.float32
    torch.manual_seed(2)
    again = TopoSamForSegmentation.from_pretrained(name, image_size=64, detail_channels=0).sam.state_dict()
    for key, tensor in network.sam.state_dict().items():
        assert torch.equal(again[key], tensor), key


@pytest.mark.parametrize(("config", "parameters"), [(_CONFIGS[VIT_S_RANDOM], 28_680_337), (TopoSamConfig, 94_407_697)])
def test_the_random_vits_have_stock_sams_shapes(config, parameters):
    with torch.device("meta"):
        network = TopoSamForSegmentation(config())
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.config.vision_config.output_channels == network.config.mask_decoder_config.hidden_size == 256
    assert network.config.image_size == network.config.tile_size == 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", [VIT_S_RANDOM, VIT_B_RANDOM])
def test_the_random_vits_are_the_same_whatever_the_global_seed(name):
    first, second = (
        TopoSamForSegmentation.from_pretrained(name, image_size=size).sam.state_dict() for size in (64, 32)
    )
    assert all(torch.equal(second[key], tensor) for key, tensor in first.items())


def sum_of_sizes(network) -> float:
    return sum(parameter.double().abs().sum().item() for parameter in network.parameters())


def test_the_embedded_weights_are_these():
    """An adapter fits only the base it was trained on: a change of the weights must be noticed."""
    assert sum_of_sizes(TopoSamForSegmentation.from_pretrained(TINY_RANDOM).sam) == pytest.approx(
        287659.7217269926, rel=1e-9
    )
    for name, size, context in (
        (TINY, 354992.9582455158, True),
        (TINY_REGIONS, 316335.6373510957, False),
        (VESSELS, 368401.79526501894, True),
    ):
        stored = TopoSamForSegmentation.from_pretrained(name, detail_context=context)
        assert sum_of_sizes(stored) == pytest.approx(size, rel=1e-9), name


def test_vessels_is_tiny_but_for_its_detail_branch_which_runs_without_sam():
    tiny, vessels = (TopoSamForSegmentation.from_pretrained(name) for name in (TINY, VESSELS))
    other = {name for name, tensor in tiny.state_dict().items() if not torch.equal(tensor, vessels.state_dict()[name])}
    assert {name.split(".")[0] for name in other} == {"detail_branch", "tile_scaling"}
    assert (tiny.config.use_sam, vessels.config.use_sam) == (True, False)


def mean_dice(predictor: Predictor, rows: list[dict]) -> float:
    scores = [dice(predictor.probability(row["image"]) >= 0.5, row["mask"][0] == 1, row["valid_mask"]) for row in rows]
    return sum(scores) / len(scores)


def test_tiny_segments_thin_structures_as_it_comes():
    rows = [draw_synthetic(index, seed=99, kinds=["vessels", "cracks", "roads"]) for index in range(4)]
    settings = AdapterSettings(base=TINY, image_size=256, tile_size=256)
    for name, least, most in ((TINY, 0.6, 1.0), (TINY_RANDOM, 0.0, 0.3)):
        predictor = Predictor(TopoSamForSegmentation.from_pretrained(name), settings)
        for seen in (rows, [{**row, "image": 255 - row["image"]} for row in rows]):
            assert least <= mean_dice(predictor, seen) <= most, name


def test_tiny_regions_segments_regions_as_it_comes():
    regions = [draw_synthetic(index, seed=99, kinds=["blobs"]) for index in range(6)]
    assert mean_dice(Predictor(load_network("tiny-regions")), regions) > 0.75


def test_tiny_regions_sees_pictures_as_it_was_trained():
    network = load_network("tiny-regions")
    assert network.adapter_settings.view == "full" and network.adapter_settings.base == TINY_REGIONS
    assert network.config.tile_size == network.config.image_size == network.adapter_settings.tile_size == 128
    assert network.detail_branch.context is None and not network.adapter_settings.detail_context


def test_a_spatial_adapter_of_another_form_than_tinys_starts_as_on_any_base():
    network, whole = (
        TopoSamForSegmentation.from_pretrained(TINY, **form) for form in ({"spatial_adapter_form": "seglab"}, {})
    )
    assert not network.spatial_adapter.get_parameter("refine.4.weight").any()
    for name, tensor in whole.state_dict().items():
        if not name.startswith(("spatial_adapter", "tile_scaling")):
            assert torch.equal(network.state_dict()[name], tensor), name


def test_context_starts_as_the_identity_and_learns():
    plain, further = (
        TopoSamForSegmentation.from_pretrained(TINY_REGIONS, image_size=128, detail_context=context)
        for context in (False, True)
    )
    for network in (plain, further):  # whose last layer is zero as it comes
        torch.nn.init.ones_(network.detail_branch.correction.weight)
    tiles = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    logits = further.train()(pixel_values=tiles).logits
    with torch.no_grad():
        assert torch.equal(logits, plain(pixel_values=tiles).logits)
    logits.square().mean().backward()
    added = further.detail_branch.context
    assert len(added) == 5 and all(block.conv_out.weight.grad.any() for block in added)


def test_context_sees_further():
    def reach(context: bool) -> int:
        """How far from a pixel another one still changes its logit."""
        branch = DetailBranch(4, 64, num_labels=1, context=context)
        torch.manual_seed(0)
        for parameter in branch.parameters():
            torch.nn.init.normal_(parameter)
        tile = torch.zeros(1, 3, 320, 320, requires_grad=True)
        branch(tile, None)[0, 0, 160, 160].backward()
        columns = tile.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        return int((columns - 160).abs().max())

    assert reach(True) - reach(False) == pytest.approx(130, abs=8)


def test_the_random_base_lets_features_through():
    network = TopoSamForSegmentation.from_pretrained(TINY_RANDOM)
    tiles = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding, _ = network.backbone.encode(network.sam, tiles, fast=True)
        logits = network(tiles).logits
    assert 0.1 < embedding.std() < 10 and 0.05 < logits.std() < 20
    assert (embedding[0] - embedding[1]).abs().mean() > 0.1, "two images, two embeddings"
    assert (embedding[0, :, 0, 0] - embedding[0, :, 8, 8]).abs().mean() > 0.1, "two places, two features"


def test_settings_and_loading_keywords_reach_an_embedded_base():
    network = TopoSamForSegmentation.from_pretrained(
        TINY_RANDOM, image_size=64, num_labels=2, dtype=torch.bfloat16, attn_implementation="eager", revision=None
    )
    assert network.dtype == torch.bfloat16 and network.config._attn_implementation == "eager"
    assert (network.config.image_size, network.config.tile_size, network.config.num_labels) == (64, 64, 2)
    assert tiny_config(image_size=64).vision_config.image_size == 256


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="topolora_hf/tiny takes no imagesize"):
        TopoSamForSegmentation.from_pretrained(TINY, imagesize=64)
