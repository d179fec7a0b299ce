import copy
import logging
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import SamModel
from transformers.utils import logging as transformers_logging

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.objective.losses import TopoLoss


@pytest.fixture
def transformers_log(caplog):
    """What transformers logs, which by default pytest does not see."""
    transformers_logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield caplog
    transformers_logging.disable_propagation()


def random_tiles(side: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits_of(model, tiles: torch.Tensor) -> torch.Tensor:
    return model(tiles).logits


@torch.no_grad()
def sam_logits(sam: SamModel, pixel_values: torch.Tensor, side: int) -> torch.Tensor:
    """Section "identity at the start": stock SAM's first mask brought to the tile's side; far from zero."""
    masks = sam.eval()(pixel_values=pixel_values, multimask_output=False).pred_masks[:, 0]
    assert masks.std() > 0.3, "the logits must be far from zero for the comparison to mean anything"
    return F.interpolate(masks, (side, side), mode="bilinear", align_corners=False)


def assert_same_logits(logits: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-5 of the largest logit."""
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    "shape, side, detail_channels", [("small", 64, 0), ("small", 64, 4), ("vit_b_shallow", 256, 4)]
)
def test_a_fresh_network_gives_sams_logits_bit_for_bit(stock_sam, shape, side, detail_channels):
    directory, tiles = stock_sam(shape), random_tiles(side)
    sam = SamModel.from_pretrained(directory, attn_implementation="sdpa")
    network = TopoSamForSegmentation.from_pretrained(
        directory, attn_implementation="sdpa", detail_channels=detail_channels
    )
    expected = sam_logits(sam, tiles, side)
    assert torch.equal(logits_of(network.eval(), tiles), expected)
    preset = "topolora" if detail_channels else "paper"
    adapted = create_adapter(network, preset).eval()
    # The adapter's own copies of the weights lie elsewhere in memory, which costs some kernels the last bit.
    assert_same_logits(logits_of(adapted, tiles), expected)
    with adapted.disable_adapter():
        assert torch.equal(logits_of(adapted, tiles), expected)


@pytest.mark.slow
def test_a_fresh_network_gives_sams_logits_at_full_vit_b(stock_sam):
    directory, tiles = stock_sam("vit_b"), random_tiles(1024)
    sam = SamModel.from_pretrained(directory, attn_implementation="sdpa")
    network = TopoSamForSegmentation.from_pretrained(directory, attn_implementation="sdpa")
    assert torch.equal(logits_of(network.eval(), tiles), sam_logits(sam, tiles, 1024))


def test_eager_attention_is_within_1e_5_of_the_largest_logit(stock_sam):
    tiles = random_tiles(64, count=2)
    expected = sam_logits(SamModel.from_pretrained(stock_sam(), attn_implementation="sdpa"), tiles, 64)
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), attn_implementation="eager")
    assert_same_logits(logits_of(network.eval(), tiles), expected)


@pytest.mark.parametrize("tile_size", [32, 48, 100])
def test_a_tile_of_another_size_is_resized_for_sam_and_back(stock_sam, tile_size):
    tiles = random_tiles(tile_size, count=2)
    sam = SamModel.from_pretrained(stock_sam(), attn_implementation="sdpa")
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), attn_implementation="sdpa", tile_size=tile_size)
    resized = F.interpolate(tiles, (64, 64), mode="bilinear", align_corners=False, antialias=tile_size > 64)
    assert torch.equal(logits_of(network.eval(), tiles), sam_logits(sam, resized, tile_size))


def test_disabled_adapters_give_sam_back_however_trained(stock_sam, make_adapter):
    tiles = random_tiles(64)
    model, _ = make_adapter("topolora", base=stock_sam(), tile_size=64, attn_implementation="sdpa")
    expected = sam_logits(SamModel.from_pretrained(stock_sam(), attn_implementation="sdpa"), tiles, 64)
    assert not torch.allclose(logits_of(model, tiles), expected, atol=1e-2)
    with model.disable_adapter():
        assert torch.equal(logits_of(model, tiles), expected)


def test_another_image_size_is_sam_with_interpolated_positions(stock_sam, sam_config):
    """Against a stock SAM of the other size, whose position tables are resized here, outside the network."""
    trained = SamModel.from_pretrained(stock_sam())
    other = SamModel(sam_config("small", image_size=96))
    weights = trained.state_dict()
    for name, wanted in other.state_dict().items():
        given = weights[name]
        if "rel_pos" in name and given.shape != wanted.shape:
            weights[name] = F.interpolate(given.T[None], len(wanted), mode="linear")[0].T
        elif "pos_embed" in name:
            weights[name] = F.interpolate(given.permute(0, 3, 1, 2), (6, 6), mode="bicubic").permute(0, 2, 3, 1)
    other.load_state_dict(weights)

    network = TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=96).eval()
    tiles = random_tiles(96)
    expected = sam_logits(other, tiles, 96)
    assert (network.config.tile_size, network.config.vision_config.image_size) == (96, 64)
    assert_same_logits(logits_of(network, tiles), expected)


def test_reading_a_stock_checkpoint_is_quiet(stock_sam, transformers_log):
    _, info = TopoSamForSegmentation.from_pretrained(stock_sam(), output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not transformers_log.records


def test_a_stock_tensor_that_is_missing_is_reported(stock_sam, tmp_path, transformers_log):
    SamModel.from_pretrained(stock_sam()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["mask_decoder.upscale_conv1.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _, info = TopoSamForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {"sam.mask_decoder.upscale_conv1.weight"}
    assert "mask_decoder.upscale_conv1.weight" in transformers_log.text


def test_our_own_parts_are_initialised_when_the_checkpoint_lacks_them(stock_sam):
    """transformers loads into uninitialised memory: a layer that nobody initialises holds whatever lay there."""
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), spatial_adapter_form="seglab")
    for name, tensor in network.state_dict().items():
        if name.startswith(("spatial_adapter", "detail_branch")):
            starts_at_zero = re.search(r"correction|refine\.4|\bcontext\.\d\.conv_out", name)
            is_norm = "norm" in name or "refine.2" in name
            if is_norm and name.endswith(("weight", "running_var")):
                assert (tensor == 1).all(), name
            elif name.endswith("bias") or "running_mean" in name or starts_at_zero:
                assert (tensor == 0).all(), name
            elif name.endswith("weight"):
                assert 0.01 < tensor.std() < 3, name


def test_keyword_arguments_shape_the_network(stock_sam):
    network = TopoSamForSegmentation.from_pretrained(
        stock_sam(), image_size=32, tile_size=80, detail_channels=4, num_labels=3
    )
    assert logits_of(network, random_tiles(80, count=2)).shape == (2, 3, 80, 80)
    assert network.detail_branch.stem.out_channels == 4
    assert network.tile_scaling.settings.tolist() == [32, 80, 4, 1, 3]


def test_settings_that_describe_no_network_are_refused(stock_sam):
    with pytest.raises(ValueError, match="image_size must be a multiple of 16 from 16 to 8192, got 40"):
        TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=40)


def test_tiles_of_the_wrong_size_are_refused(stock_sam):
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), tile_size=48)
    with pytest.raises(ValueError, match="tiles of 48x48 pixels, got 64x64"):
        network(random_tiles(64))


def test_a_whole_directory_reads_back_exactly_with_its_settings(stock_sam, fill_with_random_weights, tmp_path):
    settings = {"image_size": 32, "tile_size": 48, "detail_channels": 4, "num_labels": 2}
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), spatial_adapter_form="seglab", **settings)
    fill_with_random_weights(network, seed=1).eval().save_pretrained(tmp_path)
    again, info = TopoSamForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    for key, value in settings.items():
        assert getattr(again.config, key) == value
    assert again.config.spatial_adapter_form == "seglab"
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    tiles = random_tiles(48)
    assert_same_logits(logits_of(again.eval(), tiles), logits_of(network, tiles))


def test_sizes_given_as_keywords_win_over_a_whole_directory(stock_sam, tmp_path):
    TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=32, tile_size=48).save_pretrained(tmp_path)
    network = TopoSamForSegmentation.from_pretrained(tmp_path, image_size=64)
    assert (network.tile_scaling.image_size, network.tile_scaling.tile_size) == (64, 48)


def test_gradient_checkpointing_gives_the_same_gradients(stock_sam):
    tiles = random_tiles(64, count=2)
    labels = (random_tiles(64, count=2, seed=1)[:, 0] > 0).long()
    gradients, calls = [], []
    for checkpointing in (False, True):
        network = TopoSamForSegmentation.from_pretrained(stock_sam()).train()
        if checkpointing:
            network.gradient_checkpointing_enable()
        network.criterion = TopoLoss(iterations=2)
        counted = []
        network.sam.vision_encoder.layers[0].attn.proj.register_forward_hook(lambda *_, seen=counted: seen.append(1))
        network(tiles, labels=labels).loss.backward()
        calls.append(len(counted))
        gradients.append({name: p.grad for name, p in network.sam.named_parameters() if p.grad is not None})
    assert calls == [1, 2], "with checkpointing each layer runs once more in the backward pass"
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_an_adapter_trains_under_gradient_checkpointing(stock_sam):
    model = create_adapter(TopoSamForSegmentation.from_pretrained(stock_sam()), "topolora").train()
    model.get_base_model().gradient_checkpointing_enable()
    model.get_base_model().criterion = TopoLoss(iterations=2)
    model(random_tiles(64), labels=torch.ones(1, 64, 64, dtype=torch.long)).loss.backward()
    lora_b = [p.grad for name, p in model.named_parameters() if "lora_B" in name]
    assert len(lora_b) == 4 and all(gradient.abs().max() > 0 for gradient in lora_b)


def test_labels_give_the_criterions_loss_inside_the_valid_mask(stock_sam):
    network = TopoSamForSegmentation.from_pretrained(stock_sam()).eval()
    network.criterion = TopoLoss(iterations=3, schedule="adaptive")
    assert not any("criterion" in name for name in network.state_dict()), "its weights are no part of the network"
    tiles = random_tiles(64, count=2)
    labels = torch.zeros(2, 64, 64, dtype=torch.uint8)
    labels[:, 30:34] = 1
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    valid[:, :, 40:] = False
    output = network(tiles, labels=labels, valid_mask=valid)
    assert torch.equal(output.loss, network.criterion(output.logits, labels, valid_mask=valid).total)
    flipped_outside = torch.where(valid, labels, 1 - labels)
    assert torch.equal(network(tiles, labels=flipped_outside, valid_mask=valid).loss, output.loss)
    assert network(tiles).loss is None
    network.criterion = None
    with pytest.raises(ValueError, match=r"labels need an objective: set network\.criterion = TopoLoss\(iterations="):
        network(tiles, labels=labels)


def test_positions_get_gradients_when_they_are_trained(stock_sam):
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=32).requires_grad_(False)
    network(random_tiles(32))
    network.sam.vision_encoder.pos_embed.requires_grad_(True)
    for _ in range(2):
        network.zero_grad()
        network(random_tiles(32)).logits.sum().backward()
        assert network.sam.vision_encoder.pos_embed.grad.abs().max() > 0


def test_a_bfloat16_network_predicts_the_same_roughly(stock_sam):
    tiles = random_tiles(32)
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=32).eval()
    expected = logits_of(network, tiles)
    logits = logits_of(network.to(torch.bfloat16), tiles.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_sizes_are_those_that_were_loaded_last_in_a_copy_too(stock_sam):
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=32)
    twin = copy.deepcopy(network)
    for image_size in (16, 48):
        twin.load_state_dict({"tile_scaling.settings": torch.tensor([image_size, 96, 16, 0])}, strict=False)
        assert (twin.tile_scaling.image_size, twin.config.tile_size, twin.config.use_sam) == (image_size, 96, False)
        assert AdapterSettings.of_network(twin).image_size == image_size
    assert (network.tile_scaling.image_size, network.config.use_sam) == (32, True)


@pytest.mark.slow  # tests/export/test_onnx.py exports one, and on to ONNX
def test_a_network_can_be_exported_and_runs_after_it(stock_sam):
    side = 48
    network = TopoSamForSegmentation.from_pretrained(
        stock_sam(), detail_channels=4, image_size=32, tile_size=side
    ).eval()
    expected = logits_of(network, random_tiles(side, count=3))
    batch = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=8)}}
    exported = torch.export.export(network, (random_tiles(side, count=2),), dynamic_shapes=batch).module()
    assert_same_logits(exported(random_tiles(side, count=3)).logits, expected)
    assert torch.equal(logits_of(network, random_tiles(side, count=3)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [{"image_size": 32, "tile_size": 96}, {"image_size": 96, "tile_size": 48}])
def test_half_precision_shrinks_and_enlarges_tiles(stock_sam, dtype, sizes):
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), dtype=dtype, **sizes).eval()
    assert logits_of(network, random_tiles(sizes["tile_size"]).to(dtype)).dtype == dtype


def test_a_network_that_was_loaded_in_inference_mode_runs_there(stock_sam):
    sizes = {"image_size": 64, "tile_size": 48, "detail_channels": 4}
    expected = logits_of(TopoSamForSegmentation.from_pretrained(stock_sam(), **sizes), random_tiles(48))
    with torch.inference_mode():
        network = TopoSamForSegmentation.from_pretrained(stock_sam(), **sizes)
        assert torch.equal(network(random_tiles(48)).logits, expected)


def test_without_sam_the_logits_do_not_depend_on_sams_weights(stock_sam, fill_with_random_weights):
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), use_sam=False).eval()
    fill_with_random_weights(network.detail_branch, seed=2)
    tiles = random_tiles(64)
    before = logits_of(network, tiles)
    fill_with_random_weights(network.sam, seed=3)
    assert before.std() > 0.1
    assert torch.equal(logits_of(network, tiles), before)
