"""The same network around every family of SAMs, against transformers' own models."""

import copy
import json
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from benchmark.families import SHAPES, our_config, stock_model
from topolora_hf import (
    AdapterSettings,
    OnnxNetwork,
    TopoLoss,
    TopoSamForSegmentation,
    create_adapter,
    export_onnx,
    load_adapter,
    merge_adapter,
    save_adapter,
)
from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapters.creation import unfreeze
from topolora_hf.demo.shelf import AdapterShelf

from .conftest import FAMILIES, mend, randomise

of_every_family = pytest.mark.parametrize("family", FAMILIES)
slow = partial(pytest.param, marks=pytest.mark.slow)


def network_of(base, **settings) -> TopoSamForSegmentation:
    return TopoSamForSegmentation.from_pretrained(base, **{"detail_channels": 4, **settings})


def tiles_for(network, batch: int = 2) -> torch.Tensor:
    size = network.config.tile_size
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(model, tiles: torch.Tensor) -> torch.Tensor:
    return model.eval()(pixel_values=tiles).logits


@torch.no_grad()
def first_mask(stock: nn.Module, tiles: torch.Tensor) -> torch.Tensor:
    """Transformers' own first mask without prompts."""
    masks = stock(pixel_values=tiles, multimask_output=False).pred_masks[:, 0]
    return F.interpolate(masks, tiles.shape[-2:], mode="bilinear", align_corners=False)


def relative(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, of the largest expected logit."""
    return ((logits - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
def off_its_start(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def without_gradient(model: nn.Module, tiles: torch.Tensor) -> list[str]:
    """Take a training step's gradients; names of what is to learn and gets none."""
    network = model.get_base_model() if isinstance(model, PeftModel) else model
    network.criterion = TopoLoss(iterations=3)
    model.train()(pixel_values=tiles, labels=(tiles[:, 0] > 1).long()).loss.backward()
    learns = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learns
    return [name for name, parameter in learns if parameter.grad is None or not parameter.grad.any()]


@of_every_family
def test_it_starts_as_the_familys_own_first_mask(family, stock, family_base, capfd):
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network, info = network_of(family_base(family), output_loading_info=True)
    assert not any(info.values()) and "[transformers]" not in capfd.readouterr().err
    assert (network.config.family, network.config.image_size) == SHAPES[f"small-{family}"][:2]
    reference = copy.deepcopy(stock(f"small-{family}"))
    expected = first_mask(mend(reference) if family == "sam_hq" else reference, tiles_for(network))
    assert relative(logits_of(network, tiles_for(network)), expected) < 1e-5
    of_three = network_of(family_base(family), num_labels=3)
    assert relative(logits_of(of_three, tiles_for(network)), expected.expand(-1, 3, -1, -1)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.startswith("small") and shape != "edgetam"])
def test_it_starts_as_the_first_mask_at_published_sizes(shape):
    reference = randomise(stock_model(shape))
    network = TopoSamForSegmentation(our_config(shape))
    network.sam.load_state_dict(reference.state_dict())
    expected = first_mask(mend(reference) if shape == "sam_hq" else reference, tiles_for(network, batch=1))
    difference = relative(logits_of(network, tiles_for(network, batch=1)), expected)
    print(f"{shape}: {difference:.1e} of the largest logit, {expected.abs().max():.3g}")
    assert difference < 1e-5


def test_transformers_sam_hq_still_needs_mending(stock):
    """If this fails, transformers' SAM-HQ has become its authors': `mend` can go."""
    reference = copy.deepcopy(stock("small-sam_hq"))
    tiles = torch.randn(1, 3, 64, 64)
    as_it_is = first_mask(reference, tiles)
    assert relative(first_mask(mend(reference), tiles), as_it_is) > 0.1


@of_every_family
def test_an_adapter_learns_whole_comes_back_and_merges(family, family_base, tmp_path):
    base = family_base(family)
    network = network_of(base)
    tiles = tiles_for(network)
    of_base = logits_of(network, tiles)
    model = off_its_start(create_adapter(network))
    assert without_gradient(model, tiles) == []
    save_adapter(model, AdapterSettings.of_network(network), tmp_path / "adapter")
    expected = logits_of(model, tiles)
    assert relative(expected, of_base) > 0.01

    settings = json.loads((tmp_path / "adapter/topolora_config.json").read_text())
    assert settings["family"] == family and settings["image_mean"][0] == (0.5 if family == "sam3_tracker" else 0.485)
    stored = " ".join(load_file(tmp_path / "adapter/adapter_model.safetensors"))
    assert "lora_A" in stored and "fuse_finer" in stored
    assert not any(dead in stored for dead in ("iou_prediction", "score_head", "mlps.1", "prompt_encoder", "memory"))

    loaded = load_adapter(tmp_path / "adapter", base=str(base))
    assert torch.equal(logits_of(loaded, tiles), expected)
    with loaded.disable_adapter():
        assert torch.equal(logits_of(loaded, tiles), of_base)
    merged = merge_adapter(loaded)
    assert relative(logits_of(merged, tiles), expected) < 1e-4
    if family != "sam2":
        return
    with_peft, with_transformers = PeftModel.from_pretrained(network_of(base), tmp_path / "adapter"), network_of(base)
    with_transformers.load_adapter(tmp_path / "adapter")
    for door in (with_peft, with_transformers):
        assert torch.equal(logits_of(door, tiles), expected)
    assert AdapterShelf([str(tmp_path / "adapter")], str(base)).settings(str(tmp_path / "adapter")).family == family
    merged.save_pretrained(tmp_path / "whole")
    again = TopoSamForSegmentation.from_pretrained(tmp_path / "whole")
    assert again.config.family == family
    assert torch.equal(logits_of(again, tiles), logits_of(merged, tiles))


@of_every_family
def test_a_whole_base_learns_but_for_what_no_mask_depends_on(family, family_base):
    network = off_its_start(unfreeze(network_of(family_base(family))))
    assert without_gradient(network, tiles_for(network)) == []
    frozen = {name for name, parameter in network.sam.named_parameters() if not parameter.requires_grad}
    assert "mask_decoder.iou_prediction_head.proj_in.weight" in frozen


@pytest.mark.parametrize("family", ["sam2", "sam3_tracker", slow("sam_hq")])  # SAM-HQ has SAM's layers
def test_our_layers_and_checkpoints_change_no_gradient(family, family_base):
    gradients, base = [], family_base(family)  # which draws random numbers where it is made first
    for change in ("none", "stock", "checkpoints"):
        torch.manual_seed(0)
        network = network_of(base, fast_encoder=change != "stock")
        if change == "checkpoints":
            network.gradient_checkpointing_enable()
        model = off_its_start(create_adapter(network)).double()  # float32 leaves noise in gradients that are zero
        assert without_gradient(model, tiles_for(network).double()) == []
        gradients.append({name: tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad})
    for name, ours in gradients[0].items():
        for theirs in gradients[1:]:
            assert (ours - theirs[name]).abs().max() <= 1e-3 * theirs[name].abs().max() + 1e-7, name


@pytest.mark.parametrize(
    ("family", "allowed", "refused"), [("sam_hq", 80, 72), ("sam2", 96, 80), ("sam3_tracker", 224, 160)]
)
def test_other_image_sizes_run_or_are_refused_by_name(family, allowed, refused, family_base):
    network = network_of(family_base(family), image_size=allowed, tile_size=64)
    assert logits_of(network, tiles_for(network)).std() > 0
    fast, network.config.fast_encoder = logits_of(network, tiles_for(network)), False
    assert relative(logits_of(network, tiles_for(network)), fast) < 1e-5
    with pytest.raises(ValueError, match=f"image_size must be a multiple of .*{refused}"):
        network_of(family_base(family), image_size=refused)


def test_an_adapter_on_another_family_is_refused_by_name(family_base, tmp_path):
    network = network_of(family_base("sam2"))
    save_adapter(create_adapter(network), AdapterSettings.of_network(network), tmp_path / "adapter")
    for base in ("topolora_hf/tiny", str(family_base("sam_hq"))):
        with pytest.raises(AdapterMismatchError, match="family=sam2 .*this base is sam"):
            load_adapter(tmp_path / "adapter", base=base)
    other = network_of(family_base("sam_hq"))
    with pytest.raises(AdapterMismatchError, match="family=sam2, this base has family=sam_hq"):
        other.load_adapter(tmp_path / "adapter")
    with pytest.raises(ValueError, match="No modules were targeted"):  # PEFT's own door fails before it asks us
        PeftModel.from_pretrained(other, tmp_path / "adapter")


@pytest.mark.parametrize(("model_type", "words"), [("sam3", "save its Sam3TrackerModel"), ("bert", "supported: sam, ")])
def test_a_checkpoint_of_no_family_is_refused_by_name(model_type, words, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError, match=f"model_type '{model_type}' is not supported yet; .*{words}"):
        TopoSamForSegmentation.from_pretrained(tmp_path)


def test_statistics_of_a_frozen_encoder_stay():
    network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny")
    network.sam.vision_encoder.norm = nn.BatchNorm2d(3)
    model = create_adapter(network).train()
    assert model.training and network.detail_branch.training and not network.sam.vision_encoder.norm.training


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sam2", "sam_hq", "sam3_tracker"])
def test_an_exported_network_gives_the_same_logits(family, family_base, tmp_path):
    pytest.importorskip("onnxruntime")
    network = network_of(family_base(family), image_size=224, tile_size=64)
    model = off_its_start(create_adapter(network))
    exported = OnnxNetwork(export_onnx(model, tmp_path / "network.onnx"))
    tiles = tiles_for(network, batch=3)
    assert relative(exported(tiles).logits, logits_of(model, tiles)) < 1e-4
