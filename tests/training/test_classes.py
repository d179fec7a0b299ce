"""Runs of several classes: resumed to the bit, calibrated a class, and refused where rows and classes disagree."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import Stopped, adapter_bytes, last_step, stop_at
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.data.catalog import CATALOG
from topolora_hf.data.errors import DataError
from topolora_hf.data.rows import SegmentationData
from topolora_hf.data.tiles import TileDataset
from topolora_hf.objective.losses import TopoLoss
from topolora_hf.training import setup
from topolora_hf.training.classes import TaskClasses
from topolora_hf.training.run import train

pytestmark = pytest.mark.usefixtures("no_pictures")
LABELS = ("artery", "vein", "nerve")


def make_rows(count: int, first: int = 0, exclusive: bool = True, maps: int = 2, size=(64, 72)) -> list[dict]:
    """Bars of a brightness a class; of exclusive classes the first hides the others."""
    rows = []
    for number in range(first, first + count):
        rng, mask = np.random.default_rng(number), np.zeros((maps, *size), np.uint8)
        for k in range(maps):
            place = int(rng.integers(4, 56))
            (mask[k] if k % 2 else mask[k].T)[place : place + 3] = 1
        if exclusive:
            mask[1:] &= ~np.maximum.accumulate(mask, axis=0)[:-1] & 1
        image = rng.integers(0, 60, (*size, 3)) + (mask * np.array([180, 120, 60])[:maps, None, None]).sum(0)[..., None]
        valid = np.ones(size, bool)
        rows.append(
            {"id": f"{number}", "image": image.clip(0, 255).astype(np.uint8), "mask": mask, "valid_mask": valid}
        )
    return rows


def splits_of(exclusive: bool = True, maps: int = 2) -> dict:
    counts = {"train": (2, 0), "validation": (1, 2), "test": (1, 3)}
    return {split: make_rows(*which, exclusive, maps) for split, which in counts.items()}


@pytest.mark.parametrize(
    ("exclusive", "maps", "steps"), [(True, 2, 6), pytest.param(False, 3, 4, marks=pytest.mark.slow)]
)
def test_a_run_of_several_classes_is_resumed_to_the_bit_and_saved_with_its_names(
    make_arguments, exclusive, maps, steps
):
    splits, classes = splits_of(exclusive, maps), TaskClasses(LABELS[:maps], exclusive)
    settings = {"max_steps": steps, "evaluate_every": 100, "calibrate": "validation"}
    straight, stopped = make_arguments("straight", **settings), make_arguments("stopped", **settings)
    metrics = train(straight, splits, classes=classes)
    with pytest.raises(Stopped):
        train(stopped, splits, on_step=stop_at(3, 2), classes=classes)
    assert last_step(stopped) == 2
    train(stopped, splits, classes=classes)
    assert adapter_bytes(stopped) == adapter_bytes(straight)
    model = load_adapter(Path(straight.output_dir) / "adapter", base=straight.base)
    saved = model.adapter_settings
    assert (saved.labels, saved.exclusive) == (LABELS[:maps], exclusive)
    assert len(set(saved.logit_bias)) == maps == len(saved.temperature) and saved.thresholds == saved.threshold
    assert metrics["temperature"] == list(saved.temperature) and np.isfinite(metrics["dice"])
    history = (Path(straight.output_dir) / "history.csv").read_text().splitlines()
    losses = [float(line.split(",")[2]) for line in history[1:] if line.split(",")[2]]
    assert losses[-1] < losses[0]
    assert json.loads((Path(straight.output_dir) / "adapter" / "topolora_config.json").read_text())["labels"]


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "full"},
        pytest.param({"gradient_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param({"mixed_precision": "bf16"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:mixed_precision bf16 is slower", "ignore:`gradient_checkpointing_enable`")
def test_six_classes_train_in_every_way(make_arguments, settings):
    data = {"train": make_rows(2, maps=3), "test": make_rows(1, first=2, maps=3)}
    for rows in data.values():
        for row in rows:
            row["mask"] = np.concatenate([row["mask"], row["mask"][:, ::-1]])
    metrics = train(make_arguments(**settings), data, classes=TaskClasses([f"c{k}" for k in range(6)]))
    assert np.isfinite(metrics["auroc"])


def test_the_data_says_what_its_classes_are():
    data = SegmentationData({"train": make_rows(1)})
    data.labels, data.exclusive, data.thin = LABELS[:2], True, (True, False)
    assert TaskClasses.of(data) == TaskClasses(LABELS[:2], True, (True, False))
    with pytest.raises(ValueError, match="the data says what its classes are .artery, vein.: give no others"):
        TaskClasses.of(data, TaskClasses(("a", "b")))
    assert TaskClasses.of({"train": make_rows(1, maps=1)}) == TaskClasses()


@pytest.mark.parametrize("maps", [1, 3])
def test_masks_of_another_number_of_classes_are_refused(make_arguments, maps):
    message = rf"K=2 for artery, vein; the first of train has \({maps}, 64, 72\)"
    with pytest.raises(DataError, match=message):
        train(make_arguments(), splits_of(maps=maps), classes=TaskClasses(LABELS[:2]))
    row = make_rows(1)[0]
    with pytest.raises(
        DataError, match=r"shape \(K, H, W\), with K=1 for foreground; the first of train has \(64, 72\)"
    ):
        TaskClasses.of({"train": [{**row, "mask": row["mask"][0]}]})


def test_a_class_that_no_image_of_the_calibration_shows_is_named_before_training(make_arguments):
    splits = splits_of()
    splits["validation"][0]["mask"][1] = 0
    with pytest.raises(DataError, match="none of these 1 shows any vein: calibrate on train"):
        train(make_arguments(calibrate="validation"), splits, classes=TaskClasses(LABELS[:2], True))


def test_a_pixel_of_two_exclusive_classes_names_the_image_and_one_made_by_resizing_is_left_out():
    rows = make_rows(1)
    rows[0]["mask"][:, 5, 7:12] = 1
    with pytest.raises(ValueError, match="^0: 5 pixels are of two classes or more, and the classes are exclusive"):
        TileDataset(rows, 48, view="full", exclusive=True)[0]
    tiles = TileDataset(make_rows(1), 24, view="full", exclusive=True, augmentation=None)
    tile, shared = tiles[0], TileDataset(make_rows(1), 24, view="full", augmentation=None)[0]
    of_two = shared["labels"].sum(0) > 1
    assert of_two.any() and torch.equal(tile["valid_mask"], shared["valid_mask"] & ~of_two)
    assert TopoLoss(exclusive=True)(torch.zeros(1, 2, 24, 24), tile["labels"][None], tile["valid_mask"][None]).total > 0


def test_the_objective_is_that_of_the_classes(make_arguments):
    rows = make_rows(2)
    for row in rows:
        row["mask"][1] = 0
        row["mask"][1, 20:50, 20:50] = 1
    classes = TaskClasses(LABELS[:2], False, (True, False))
    network, settings = setup.build_network(make_arguments(), CATALOG["folder"], classes)
    criterion = setup.build_criterion(make_arguments(), rows, settings, classes.thin)
    assert (criterion.iterations, criterion.thin, criterion.exclusive) == (1, (True, False), False)
    assert setup.build_criterion(make_arguments(), rows, settings, (True, True)).iterations == 10
    assert setup.build_criterion(make_arguments(), rows, settings, (False, False)).iterations == 1
    groups = setup.parameter_groups(make_arguments(), network, criterion)
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    of_classes = {name: decays[id(p)] for name, p in network.named_parameters() if "class_masks.modules" in name}
    assert {name for name, decay in of_classes.items() if not decay} == {n for n in of_classes if n.endswith("bias")}


@pytest.mark.parametrize(("count", "exclusive"), [(8, False), (255, True)])
def test_more_classes_than_a_mask_holds_are_refused_before_training(count, exclusive, make_arguments):
    rows = SegmentationData({"train": [], "test": []})
    rows.labels, rows.exclusive, rows.thin = tuple(map(str, range(count))), exclusive, (True,) * count
    args = make_arguments("many")
    with pytest.raises(ValueError, match="at most 254 exclusive or 7 overlapping"):
        train(args, rows)
    assert not (Path(args.output_dir) / "train_args.json").exists()


@pytest.mark.parametrize(
    ("thin", "terms"), [((True, False), "Dice + 0.5 clDice of artery (ramp)"), ((False, False), "BCE + Dice,")]
)
def test_a_run_and_its_card_say_of_which_classes_cldice_is(thin, terms, make_arguments, capsys):
    args = make_arguments("thin", max_steps=1)
    train(args, splits_of(False), classes=TaskClasses(LABELS[:2], False, thin))
    assert terms in capsys.readouterr().out
    card = (Path(args.output_dir) / "adapter/README.md").read_text()
    assert ("clDice of artery, on the logits" if any(thin) else "cross-entropy + Dice, on the logits") in card
