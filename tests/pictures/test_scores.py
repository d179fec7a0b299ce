import math
import sys

import numpy as np
import pytest
from PIL import Image

from topolora_hf.metrics.calibration import reliability
from topolora_hf.metrics.report import score_images
from topolora_hf.metrics.thresholds import threshold_counts
from topolora_hf.pictures.scores import save_precision_recall, save_reliability, save_score_distribution

RNG = np.random.default_rng(0)
TARGETS = [RNG.random((30, 40)) < 0.3 for _ in range(3)]
PROBABILITIES = [np.clip(0.5 * RNG.random(target.shape) + 0.4 * target, 0, 1) for target in TARGETS]
COUNTS = [threshold_counts(*pair) for pair in zip(PROBABILITIES, TARGETS, strict=True)]
RELIABILITIES = [reliability(*pair) for pair in zip(PROBABILITIES, TARGETS, strict=True)]


def scored(count: int) -> list[dict]:
    samples = [{"id": index, "probability": PROBABILITIES[index], "mask": TARGETS[index]} for index in range(count)]
    return score_images(samples, workers=1)


def texts(path) -> set[str]:
    """matplotlib's SVG keeps every text as a comment beside its glyphs."""
    return {line.strip()[5:-4] for line in path.read_text().splitlines() if line.strip().startswith("<!-- ")}


def test_every_picture_is_one_that_can_be_looked_at(tmp_path):
    folder = tmp_path / "run"
    save_precision_recall(folder / "curve.png", COUNTS, threshold=0.4)
    save_reliability(folder / "reliability.png", RELIABILITIES)
    save_score_distribution(folder / "scores.png", scored(3))
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 400
            assert np.asarray(picture.convert("L")).std() > 20
    assert len(list(folder.iterdir())) == 3


def test_precision_recall_curve_names_threshold_and_dice_of_all_pixels(tmp_path):
    save_precision_recall(tmp_path / "curve.svg", COUNTS, threshold=0.4)
    hits, predicted, true = (
        sum(np.count_nonzero(mask) for mask in masks)
        for masks in (
            [(p >= 0.4) & t for p, t in zip(PROBABILITIES, TARGETS, strict=True)],
            [p >= 0.4 for p in PROBABILITIES],
            TARGETS,
        )
    )
    expected = f"threshold 0.4: Dice {2 * hits / (predicted + true):.3f}"
    assert {expected, "all pixels of 3 images", "single images"} <= texts(tmp_path / "curve.svg")
    save_precision_recall(tmp_path / "one.svg", COUNTS[:1])
    assert "all pixels of the image" in texts(tmp_path / "one.svg")
    assert not any("threshold 0" in text or "single" in text for text in texts(tmp_path / "one.svg"))


def test_curves_allow_images_without_foreground_or_pixels(tmp_path):
    empty = threshold_counts(PROBABILITIES[0], np.zeros_like(TARGETS[0]))
    unseen = threshold_counts(PROBABILITIES[0], TARGETS[0], np.zeros_like(TARGETS[0]))
    save_precision_recall(tmp_path / "curve.png", [empty, unseen, *COUNTS])
    with pytest.raises(ValueError, match="no curve to draw in .*nothing.png: no foreground in 2 images"):
        save_precision_recall(tmp_path / "nothing.png", [empty, unseen])


def test_reliability_diagram_names_the_error_over_all_pixels(tmp_path):
    save_reliability(tmp_path / "reliability.svg", RELIABILITIES)
    together = reliability(np.vstack(PROBABILITIES), np.vstack(TARGETS)).error
    assert f"all pixels, calibration error {together:.3f}" in texts(tmp_path / "reliability.svg")
    save_reliability(tmp_path / "certain.svg", [reliability(np.ones((3, 3)), np.ones((3, 3), bool))])
    assert "all pixels, calibration error 0.000" in texts(tmp_path / "certain.svg")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_score_distribution_shows_every_defined_score(tmp_path, count):
    rows = scored(count)
    for row in rows:
        row["auroc"] = math.nan
    save_score_distribution(tmp_path / "scores.svg", rows)
    drawn = texts(tmp_path / "scores.svg")
    assert {"dice", "cldice", "scores", "calibration errors", "topology errors"} <= drawn
    assert "auroc" not in drawn and any(f"{count} images;" in text for text in drawn)


def test_score_distribution_does_with_the_columns_there_are(tmp_path):
    save_score_distribution(tmp_path / "scores.svg", [{"dice": 0.4}, {"dice": math.nan}, {"dice": 0.6}])
    drawn = texts(tmp_path / "scores.svg")
    assert "dice" in drawn and "topology errors" not in drawn


def test_nothing_to_draw_is_refused_by_name(tmp_path):
    path = tmp_path / "picture.png"
    with pytest.raises(ValueError, match="no curve to draw in .*picture.png: no foreground in 0 images"):
        save_precision_recall(path, [])
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\], got 42"):
        save_precision_recall(path, COUNTS, threshold=42)
    unseen = reliability(PROBABILITIES[0], TARGETS[0], np.zeros_like(TARGETS[0]))
    for nothing in ([], [unseen]):
        with pytest.raises(ValueError, match="nothing to draw in .*picture.png: no pixel"):
            save_reliability(path, nothing)
    with pytest.raises(ValueError, match="no row of scores"):
        save_score_distribution(path, [])
    with pytest.raises(ValueError, match="no score is defined in 2 rows"):
        save_score_distribution(path, [{"id": name, "dice": math.nan} for name in "ab"])
    assert not path.exists()


def test_pyplot_is_never_touched(tmp_path):
    imported_before = "matplotlib.pyplot" in sys.modules
    save_score_distribution(tmp_path / "scores.png", scored(2))
    save_precision_recall(tmp_path / "curve.png", COUNTS)
    if imported_before:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
    else:
        assert "matplotlib.pyplot" not in sys.modules
