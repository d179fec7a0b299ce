"""What a run is built of, from its settings."""

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from topolora_hf.adapter_format.presets import LIVING_DECODER
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter
from topolora_hf.data.augmentation import Augmentation
from topolora_hf.data.catalog import CATALOG
from topolora_hf.fundus.colours import FovColours, fov_statistics
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.objective.losses import TopoLoss
from topolora_hf.training import setup
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.run import train

# Zoom and noise alone are varied.
STILL = Augmentation(flips=False, quarter_turns=False, brightness=0, contrast=0, gamma=0, colour=0)


def _tiles(rows, **settings):
    args = TrainArguments(dataset="drive", **settings)
    return setup.build_tiles(args, rows, AdapterSettings(base="none", tile_size=64, view="whole"), STILL, 1)


def test_zoom_and_noise_are_the_data_sets_unless_the_run_says_otherwise(make_rows):
    rows = make_rows(1)
    assert _tiles(rows).augmentation == STILL
    assert _tiles(rows, zoom=2.0).augmentation == replace(STILL, zoom=(0.5, 2.0))
    assert _tiles(rows, noise=0.2).augmentation == replace(STILL, noise=0.2)


@pytest.mark.parametrize("settings, same", [({}, False), ({"zoom": 1.0}, False), ({"zoom": 1.0, "noise": 0.0}, True)])
def test_without_zoom_and_noise_tiles_are_the_image_itself(make_rows, settings, same):
    rows = make_rows(1)
    plain = _tiles(rows, augmentation=False)[0]
    varied = _tiles(rows, **settings)[0]
    assert torch.equal(varied["pixel_values"], plain["pixel_values"]) == same
    assert torch.equal(varied["labels"], plain["labels"]) == ("zoom" in settings)


def test_every_trained_parameter_has_one_group_with_its_rate_and_decay(make_arguments, stock_sam):
    args = make_arguments(learning_rate=0.5, detail_learning_rate=0.25, weight_decay=0.125)
    network = TopoSamForSegmentation.from_pretrained(stock_sam("small"), detail_channels=4)
    model, criterion = create_adapter(network), TopoLoss(schedule="adaptive")
    groups = setup.parameter_groups(args, model, criterion)
    grouped = [parameter for group in groups for parameter in group["params"]]
    trained = [parameter for parameter in (*model.parameters(), *criterion.parameters()) if parameter.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trained))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["lr"] == (0.25 if "detail_branch" in names.get(id(parameter), "") else 0.5)
            assert group["weight_decay"] == (0.125 if parameter.ndim > 1 else 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a CPU does")
@pytest.mark.parametrize(
    ("processor", "precision"),
    [
        ({"cpu_name": "AMD Zen 4", "amx_bf16": False, "avx512_bf16": True}, "bf16"),
        ({"cpu_name": "Intel Xeon", "amx_bf16": True, "avx512_bf16": True}, "bf16"),
        ({"cpu_name": "Intel Xeon", "amx_bf16": False, "avx512_bf16": True}, "no"),
        ({"cpu_name": "AMD Zen 2", "amx_bf16": False, "avx512_bf16": False}, "no"),
        ({}, "no"),
    ],
)
def test_precision_auto_is_the_faster_one_of_the_processor(monkeypatch, make_arguments, processor, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert setup.build_accelerator(make_arguments(mixed_precision="auto")).mixed_precision == precision


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_where_it_is_slower_gets_a_warning(monkeypatch, make_arguments, has_bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "AMD Zen", "avx512_bf16": has_bf16})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setup.build_accelerator(make_arguments(mixed_precision="bf16"))
    said = any("bf16 is slower than float32 on this processor" in str(warning.message) for warning in caught)
    assert said is not has_bf16


@pytest.mark.parametrize(
    ("dataset", "radius", "diameter"),
    [("drive", 30, 61), ("crosses", 30, 61), ("synthetic", 30, None), ("kvasir", 30, None), ("crosses", np.inf, None)],
    ids=["retinas", "given", "drawn", "whole images", "no field of view"],
)
def test_an_adapter_of_retinas_knows_how_large_and_of_what_colours_they_were(
    make_arguments, splits, dataset, radius, diameter
):
    view = np.hypot(*np.ogrid[-35:37, -40:40]) <= radius
    rows = [{**row, "valid_mask": view} for row in splits["train"]]
    args = make_arguments(dataset=dataset)
    train(args, {**splits, "train": rows})
    settings = AdapterSettings.from_pretrained(Path(args.output_dir) / "adapter")
    assert settings.disc_diameter == (diameter and pytest.approx(diameter, rel=0.03))
    expected = None
    if diameter is not None or dataset == "synthetic":
        expected = FovColours.of_statistics([fov_statistics(row["image"], view) for row in rows])
        assert expected.lowest < expected.highest
    assert settings.disc_colours == expected


@pytest.mark.parametrize(
    ("dataset", "asked", "view"),
    [("folder", None, "tiles"), ("folder", "whole", "whole"), ("kvasir", None, "whole"), ("kvasir", "tiles", "tiles")],
)
def test_images_are_cut_or_taken_whole_as_the_run_says_or_as_suits_the_data_set(make_arguments, dataset, asked, view):
    args = make_arguments(dataset=dataset, view=asked)
    assert setup.build_network(args, CATALOG[dataset])[1].view == view


def test_a_decoder_from_scratch_is_drawn_from_the_seed_alone_and_nothing_else_changes(stock_sam):
    network = TopoSamForSegmentation.from_pretrained(stock_sam("small"), detail_channels=0)

    def restarted(seed: int) -> dict[str, torch.Tensor]:
        setup.restart_decoder(network, seed)
        return copy.deepcopy(network.state_dict())

    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    first, other, again = restarted(1), restarted(2), restarted(1)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
        living = any(part in name for part in LIVING_DECODER)
        if not living:
            assert torch.equal(tensor, before[name]), name
        elif tensor.ndim > 1:  # transformers: normal numbers of deviation 0.02; biases are 0, norms 1
            assert not torch.equal(tensor, before[name]) and not torch.equal(tensor, other[name]), name
            assert tensor.std().item() == pytest.approx(0.02, rel=0.5), name
        else:
            constant = "norm" in name and name.endswith("weight")
            assert torch.equal(tensor, torch.full_like(tensor, constant)), name


def test_a_decoder_that_is_not_trained_cannot_start_from_scratch(make_arguments, splits):
    with pytest.raises(ValueError, match="preset 'detail_only' does not train the decoder"):
        train(make_arguments(preset="detail_only", decoder_init="scratch"), splits)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="of machines without a GPU")
def test_fp16_on_a_cpu_is_refused_with_the_way_out(make_arguments, splits):
    with pytest.raises(ValueError, match="mixed_precision fp16 needs a GPU: on a CPU it is auto, bf16 or no"):
        train(make_arguments(mixed_precision="fp16"), splits)


def test_an_adapter_is_no_base(make_arguments, splits, make_adapter):
    adapter = str(make_adapter(detail_channels=4)[1])
    with pytest.raises(ValueError, match=f"{adapter} is an adapter: a base is"):
        train(make_arguments(base=adapter), splits)


def test_another_width_than_the_bases_own_is_named(make_arguments, splits, tmp_path):
    TopoSamForSegmentation.from_pretrained("topolora_hf/tiny").save_pretrained(tmp_path / "base")
    args = make_arguments(base=str(tmp_path / "base"), detail_channels=8)
    with pytest.raises(ValueError, match="base .*base was saved in another form than .*detail_channels=8"):
        train(args, splits)


def test_a_base_without_the_detail_branch_that_is_to_be_trained_is_named(make_arguments, splits, tmp_path):
    network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny-random", detail_channels=0)
    network.save_pretrained(tmp_path / "base")
    message = "base .*base has no detail branch, which preset 'topolora' trains: detail_channels=16 gives it one"
    with pytest.raises(ValueError, match=message):
        train(make_arguments(base=str(tmp_path / "base"), detail_channels=None), splits)
