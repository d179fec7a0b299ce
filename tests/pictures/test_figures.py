"""Every picture is drawn once for all tests: drawing takes longer than anything that is asked of it."""

import math
import sys
import weakref

import matplotlib
import numpy as np
import pytest
from PIL import Image

from topolora_hf.metrics.calibration import reliability
from topolora_hf.metrics.report import score_images
from topolora_hf.metrics.thresholds import threshold_counts
from topolora_hf.pictures.plots import save_curves, save_precision_recall, save_reliability, save_score_distribution
from topolora_hf.pictures.samples import BestAndWorst, save_best_and_worst, save_samples

RNG = np.random.default_rng(0)
TARGETS = [RNG.random((30, 40)) < 0.3 for _ in range(3)]
PROBABILITIES = [np.clip(0.5 * RNG.random(target.shape) + 0.4 * target, 0, 1) for target in TARGETS]
PAIRS = list(zip(PROBABILITIES, TARGETS, strict=True))


def sample(name: str, dice: float, shape: tuple[int, int] = (40, 60)) -> dict:
    """A sample whose mask of 100 pixels is found in part, with nothing false: Dice is 2 f / (1 + f)."""
    mask, probability, found = np.zeros((1, *shape), np.uint8), np.zeros((1, *shape), np.float32), np.zeros(100)
    mask[0, 10:20, 10:20] = 1
    found[: round(100 * dice / (2 - dice))] = 1
    probability[0, 10:20, 10:20] = found.reshape(10, 10)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    return {"id": name, "image": image, "mask": mask, "probabilities": probability, "masks": probability >= 0.5}


def history() -> list[dict]:
    """300 steps; text as read back from a CSV, and values that are missing in every way."""
    rows = [{"step": step, "loss": 2 / step, "learning_rate": 1e-4} for step in range(1, 301)]
    for row in rows[::10]:
        row |= {"val_dice": 1 - 1 / row["step"], "val_cldice": 0.5, "val_betti0_error": 90.0, "val_n": 1000}
    return [*rows, {"step": "301", "loss": "0.5"}, {"step": 302, "loss": math.nan, "val_dice": ""}, {"val_dice": None}]


def draw_samples(path):
    view = np.ones((30, 90), bool)
    view[:5] = False
    rows = [sample("a/very" + "/long" * 40, 1, (60, 40)), sample("b", 0.9, (30, 90)) | {"valid_mask": view}]
    save_samples(path, rows)


def draw_best_and_worst(path):
    scores = {"a": 0.5, "b": 0.9, "c": 0.2, "d": 0.7, "e": 0.3, "f": 0.8, "g": 0.6}
    undefined = sample("none", 0) | {"mask": np.zeros((1, 40, 60))}
    save_best_and_worst(path, [undefined, *(sample(name, dice) for name, dice in scores.items())], count=2)


def draw_scores(path):
    rows = score_images([{"id": n, "probability": p, "mask": t} for n, (p, t) in enumerate(PAIRS)], workers=1)
    save_score_distribution(path, [row | {"auroc": math.nan} for row in rows])


def draw_precision_recall(path):
    empty = threshold_counts(PROBABILITIES[0], np.zeros_like(TARGETS[0]))
    save_precision_recall(path, {"vessel": [empty, *(threshold_counts(*pair) for pair in PAIRS)]}, [0.4])


PICTURES = {
    "samples": draw_samples,
    "best_and_worst": draw_best_and_worst,
    "curves": lambda path: save_curves(path, history()),
    "scores": draw_scores,
    "precision_recall": draw_precision_recall,
    "reliability": lambda path: save_reliability(path, {"vessel": [reliability(*pair) for pair in PAIRS]}),
}


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """What is written in each picture: matplotlib's SVG keeps every text as a comment beside its glyphs."""
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    for name, draw in PICTURES.items():
        draw(folder / "run" / f"{name}.svg")
        lines = [line.strip() for line in (folder / "run" / f"{name}.svg").read_text().splitlines()]
        found[name] = [line[5:-4] for line in lines if line.startswith("<!-- ")]
    return found


def test_samples_show_id_and_dice_and_are_a_handful(texts):
    captions = [text for text in texts["samples"] if "Dice" in text]
    assert captions[0].startswith("...") and captions[0].endswith("/long   Dice 1.000")
    assert captions[1:] == ["b   Dice 0.901"]


def test_best_and_worst_are_found_among_many_and_labelled(texts):
    captions = [text.split("   ")[0] for text in texts["best_and_worst"] if "Dice" in text]
    assert captions == ["best: b", "best: f", "worst: e", "worst: c"]


def test_curves_show_what_there_is_to_follow(texts):
    assert {"training loss", "validation", "learning rate", "step", "dice", "cldice"} <= set(texts["curves"])
    assert not {"n", "bce", "betti0 error"} & set(texts["curves"])


def test_the_precision_recall_curve_names_threshold_and_dice_of_all_pixels(texts):
    predicted = np.array(PROBABILITIES) >= 0.4
    pixels = np.count_nonzero(predicted) + PROBABILITIES[0][PROBABILITIES[0] >= 0.4].size  # the empty image's, too
    dice = 2 * np.count_nonzero(predicted & TARGETS) / (pixels + np.count_nonzero(TARGETS))
    assert {f"threshold 0.4: Dice {dice:.3f}", "all pixels of 4 images", "single images"} <= set(
        texts["precision_recall"]
    )


def test_the_reliability_diagram_names_the_error_over_all_pixels(texts):
    together = reliability(np.vstack(PROBABILITIES), np.vstack(TARGETS)).error
    assert f"all pixels, calibration error {together:.3f}" in texts["reliability"]


def test_the_score_distribution_shows_every_defined_score(texts):
    drawn = texts["scores"]
    assert {"dice", "cldice", "scores", "calibration errors", "topology errors"} <= set(drawn)
    assert "auroc" not in drawn and any("3 images;" in text for text in drawn)


def test_no_figure_is_left_with_pyplot(texts):
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_picture_is_one_that_can_be_looked_at(tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", "figure")  # as outside of the tests
    save_samples(tmp_path / "samples.png", [sample("a", 0.5)])
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 400
        assert np.asarray(picture.convert("L")).std() > 20


def test_ranking_many_images_keeps_a_few_of_them_in_memory():
    alive, keeper = weakref.WeakSet(), BestAndWorst(count=1)

    class Sample(dict):
        __hash__ = object.__hash__

    for index in range(20):
        row = Sample(sample(f"image{index}", index / 20))
        alive.add(row)
        keeper.add(row)
        del row
        assert len(alive) <= 2
    assert [row["id"] for _, row in keeper.ranked] == ["image19", "image0"]


def test_nothing_to_draw_is_refused_by_name(tmp_path):
    path = tmp_path / "picture.png"
    unseen = reliability(PROBABILITIES[0], TARGETS[0], np.zeros_like(TARGETS[0]))
    empty = threshold_counts(PROBABILITIES[0], np.zeros_like(TARGETS[0]))
    undefined = sample("a", 0) | {"mask": np.zeros((1, 40, 60))}
    calls = {
        "no curve to draw in .*picture.png: no foreground in 1 images": lambda: save_precision_recall(
            path, {"a": [empty]}
        ),
        r"threshold must lie in \[0, 1\], got 42": lambda: save_precision_recall(path, {"a": [empty]}, [42]),
        "nothing to draw in .*picture.png: no pixel": lambda: save_reliability(path, {"a": [unseen]}),
        "no row of scores": lambda: save_score_distribution(path, []),
        "no score is defined in 1 rows": lambda: save_score_distribution(path, [{"id": "a", "dice": math.nan}]),
        "no sample to draw in .*picture.png": lambda: save_best_and_worst(path, [undefined]),
        "count must be 1 or more, got 0": lambda: save_best_and_worst(path, [], count=0),
        "history holds nothing to draw": lambda: save_curves(path, [{"step": 1, "loss": None}]),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()
    assert not path.exists()
