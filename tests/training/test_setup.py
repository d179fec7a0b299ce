"""What a run is built of, from its settings."""

import copy
import csv
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from tests.training.conftest import Stopped, stop_at
from topolora_hf.adapter_format.families import FAMILIES
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


def _tiles(rows, **settings):
    args = TrainArguments(dataset="drive", **settings)
    return setup.build_tiles(args, rows, AdapterSettings(base="none", tile_size=64, view="full"), Augmentation(), 1)


def test_augmentation_is_the_data_sets_without_zoom_and_noise_or_none(make_rows):
    rows = make_rows(1)
    assert _tiles(rows).augmentation == Augmentation()
    assert _tiles(rows, augmentation="same_scale").augmentation == replace(Augmentation(), zoom=(1, 1), noise=0)
    assert _tiles(rows, augmentation="none").augmentation is None


def test_every_trained_parameter_has_one_group_with_its_rate_and_decay(make_arguments, stock_sam):
    args = make_arguments(learning_rate=0.5, detail_learning_rate=0.25, weight_decay=0.125)
    network = TopoSamForSegmentation.from_pretrained(stock_sam("small"))
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


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((6, 1), "fp16"), ((7, 0), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16")],
)
def test_precision_auto_on_a_gpu_is_bf16_where_it_is_not_emulated(monkeypatch, capability, precision):
    of_device = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: of_device)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert setup._precision("auto") == setup._precision("auto", "cuda") == precision
    assert setup._precision("auto", "mps") == setup._precision("auto", "xpu") == "no"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert setup._precision("auto", "cpu") == "bf16"


def test_the_precision_is_that_of_the_device_that_accelerate_was_told_to_use(monkeypatch, make_arguments):
    """A GPU that is there, and not used."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # as `accelerate launch --cpu` does
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    accelerator = setup.build_accelerator(make_arguments(mixed_precision="auto"))
    assert (accelerator.device.type, accelerator.mixed_precision) == ("cpu", "no")


def test_data_are_loaded_by_two_processes_or_on_a_gpu_by_its_share_of_the_cores(monkeypatch):
    args = TrainArguments(dataset="drive")
    for cores, processes, workers in ((1, 1, 2), (6, 1, 6), (64, 1, 8), (64, 16, 4)):
        monkeypatch.setattr(setup, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert setup.count_workers(args, "cuda") == workers
        assert setup.count_workers(args, "cpu") == 2
        assert setup.count_workers(replace(args, num_workers=0), "cuda") == 0


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
    ids=["fundus", "given", "drawn", "full images", "no field of view"],
)
def test_training_measures_the_scale_and_the_colours_of_fundus_photographs(splits, dataset, radius, diameter):
    fov = np.hypot(*np.ogrid[-35:37, -40:40]) <= radius
    rows = [{**row, "valid_mask": fov} for row in splits["train"]]
    args = TrainArguments(dataset=dataset)
    spec, _ = setup.load_splits(args, splits)
    found, colours = setup.measure_fundus(args, spec, rows)
    assert found == (diameter and pytest.approx(diameter, rel=0.03))
    expected = None
    if diameter is not None or dataset == "synthetic":
        expected = FovColours.of_statistics([fov_statistics(row["image"], fov) for row in rows])
        assert expected.lowest < expected.highest
    assert colours == expected


@pytest.mark.parametrize(
    ("dataset", "asked", "view"),
    [("folder", None, "tiles"), ("folder", "full", "full"), ("kvasir", None, "full"), ("kvasir", "tiles", "tiles")],
)
def test_images_are_cut_or_taken_in_full_as_the_run_says_or_as_suits_the_data_set(dataset, asked, view):
    assert setup.task_settings(TrainArguments(dataset=dataset, view=asked), CATALOG[dataset])["view"] == view


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
        living = any(part in name for part in FAMILIES["sam"].decoder)
        if not living:
            assert torch.equal(tensor, before[name]), name
        elif tensor.ndim > 1:  # transformers: normal numbers of deviation 0.02; biases are 0, norms 1
            assert not torch.equal(tensor, before[name]) and not torch.equal(tensor, other[name]), name
            assert tensor.std().item() == pytest.approx(0.02, rel=0.5), name
        else:
            constant = "norm" in name and name.endswith("weight")
            assert torch.equal(tensor, torch.full_like(tensor, constant)), name


@pytest.mark.skipif(torch.accelerator.is_available(), reason="of machines without a GPU")
def test_fp16_on_a_cpu_is_refused_with_the_way_out(make_arguments, splits):
    with pytest.raises(ValueError, match="mixed_precision fp16 needs a GPU: on a CPU it is auto, bf16 or no"):
        train(make_arguments(mixed_precision="fp16"), splits)


def test_scales_of_full_images_are_refused_before_training(make_arguments, splits):
    with pytest.raises(ValueError, match="test_time_scales=.* are for images cut into tiles"):
        train(make_arguments(dataset="kvasir", test_time_scales=[0.8, 1]), splits)


def test_an_adapter_is_no_base(make_arguments, make_adapter):
    adapter = str(make_adapter(base="topolora_hf/tiny-random")[1])
    with pytest.raises(ValueError, match=f"{adapter} is an adapter: a base is"):
        setup.build_network(make_arguments(base=adapter), CATALOG["folder"])


def test_a_base_without_the_detail_branch_that_is_to_be_trained_is_named(make_arguments, stock_sam, tmp_path):
    network = TopoSamForSegmentation.from_pretrained(stock_sam("small"), detail_channels=0)
    network.save_pretrained(tmp_path / "base")
    args = make_arguments(base=str(tmp_path / "base"))
    with pytest.raises(ValueError, match="base .*base has no detail branch, which preset 'topolora' trains"):
        setup.build_network(args, CATALOG["folder"])


class Tracker(GeneralTracker):
    """In the place of TensorBoard."""

    name, requires_logging_directory, tracker = "tensorboard", True, None
    rows = []

    def __init__(self, run_name, logging_dir):
        super().__init__()
        self.rows.append((run_name, str(logging_dir)))

    def store_init_configuration(self, values):
        pass

    def log(self, values, step):
        self.rows.append((step, values["loss"] if "loss" in values else values["val_dice"]))


def test_a_tracker_is_given_every_row_of_the_history_and_a_missing_one_is_refused(make_arguments, splits, monkeypatch):
    with pytest.raises(
        ValueError, match="log_with tensorboard: no such tracker of Accelerate is installed; installed: "
    ):
        monkeypatch.setattr("accelerate.tracking._available_trackers", [])
        setup.build_accelerator(make_arguments(log_with="tensorboard"))
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Tracker)
    args = make_arguments(log_with="tensorboard")
    with pytest.raises(Stopped):
        train(args, splits, on_step=stop_at(2))
    (name, folder), *rows = Tracker.rows
    assert (name, folder) == ("run", args.output_dir)
    history = list(csv.DictReader((Path(args.output_dir) / "history.csv").open()))
    assert [(int(row["step"]), row["loss"] or row["val_dice"]) for row in history] == [
        (step, str(value)) for step, value in rows
    ]
    assert len(rows) == 3
