import pytest
import torch

from benchmark.networks import (
    NetworkShape,
    authors_network,
    canonical_name,
    fill_with_random_weights,
    our_network,
    trained_parameters,
    transformers_network,
)

SMALL = NetworkShape("small")


def all_forms():
    return {
        "authors": authors_network(SMALL),
        "eager": transformers_network(SMALL, "eager"),
        "sdpa": transformers_network(SMALL, "sdpa"),
        "ours": our_network(SMALL),
    }


def test_all_forms_are_one_network():
    pixel_values = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = {
        name: fill_with_random_weights(form)(pixel_values=pixel_values).logits for name, form in all_forms().items()
    }
    assert logits["authors"].std() > 0.01
    for name, values in logits.items():
        torch.testing.assert_close(values, logits["authors"], rtol=1e-4, atol=1e-5, msg=name)


def test_all_forms_train_the_same_but_for_what_reaches_no_logit():
    trained = {name: trained_parameters(form).keys() for name, form in all_forms().items()}
    assert trained["ours"] == trained["eager"] == trained["sdpa"]
    only_theirs = trained["authors"] - trained["ours"]
    assert trained["authors"] > trained["ours"]
    assert all("iou_prediction_head" in name or "output_hypernetworks_mlps." in name for name in only_theirs)


def test_the_papers_network_has_the_parameters_that_it_trains():
    with torch.device("meta"):
        network = authors_network(NetworkShape("vit_b"))
    assert sum(parameter.numel() for parameter in trained_parameters(network).values()) == 5_601_252


def test_weights_depend_on_names_alone_and_none_stays_at_its_start():
    first, second = (fill_with_random_weights(our_network(SMALL)) for _ in range(2))
    others = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, others[name]), name
        assert parameter.numel() <= 1 or parameter.std() > 0.005, name


@pytest.mark.parametrize("model", ["small", "tiny", "vit_b"])
def test_fewer_layers_end_with_global_attention(model):
    vision = NetworkShape(model, image_size=256, layers=3).config().vision_config
    assert (vision.image_size, vision.num_hidden_layers, vision.global_attn_indexes) == (256, 3, [2])


def test_canonical_names_are_sams_own():
    for name in (
        "base_model.model.sam.mask_decoder.iou_token.modules_to_save.default.weight",
        "base_model.model.sam.mask_decoder.iou_token.original_module.weight",
    ):
        assert canonical_name(name) == "sam.mask_decoder.iou_token.weight"
    assert canonical_name("sam.vision_encoder.layers.0.mlp.lin1.base_layer.bias") == (
        "sam.vision_encoder.layers.0.mlp.lin1.bias"
    )
