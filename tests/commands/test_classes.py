"""`topolora predict` and `score` with an adapter of two classes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor

from .conftest import save


@pytest.fixture
def predicted(photos, topolora, two_classes):
    """All files of three images, and what the predictor gives for each."""
    words = ("--class_masks", "--probability", "--centreline")
    done = topolora("predict", "--adapter", two_classes, "--images", photos, *words)
    assert done.status == 0, done.err
    predictor = Predictor(load_network(str(two_classes)))
    return done, {name: predictor(photos / f"{name}.png") for name in "abc"}


def test_a_mask_is_a_palette_of_labels_and_every_class_has_its_files(predicted):
    done, expected = predicted
    of_image = ["mask", "overlay", "centreline"] + [
        f"{kind}_{c}" for kind in ("mask", "probability") for c in ("artery", "vein")
    ]
    written = {f"{n}_{end}.png" for n in "abc" for end in of_image} | {f"{n}_centreline.json" for n in "abc"}
    assert {path.name for path in Path("predictions").iterdir()} == written | {"predict_args.json", "classes.json"}
    assert "a_mask.png, a_mask_artery.png, a_mask_vein.png, a_probability_artery.png" in done.out
    for name, prediction in expected.items():
        with Image.open(f"predictions/{name}_mask.png") as picture:
            assert (
                picture.mode == "P"
                and len(set(map(tuple, np.reshape(picture.getpalette(), (-1, 3))[:4].tolist()))) == 4
            )
            labels = np.asarray(picture)
        np.testing.assert_array_equal(labels, prediction.masks[0] + 2 * prediction.masks[1])
        for place, label in enumerate(("artery", "vein")):
            mask = np.asarray(Image.open(f"predictions/{name}_mask_{label}.png"))
            np.testing.assert_array_equal(mask, 255 * prediction.masks[place].astype(np.uint8))
            stored = np.asarray(Image.open(f"predictions/{name}_probability_{label}.png")) / 65535
            np.testing.assert_allclose(stored, prediction.probabilities[place], atol=1e-5)
    lines = json.loads(Path("predictions/a_centreline.json").read_text())
    assert lines["vein"]["length"] == expected["a"].totals["vein"]["length"] > 0
    assert set(np.unique(np.concatenate([p.label_map for p in expected.values()]))) == {0, 1, 2, 3}


def test_masks_of_labels_are_read_back_by_the_classes_that_are_written_beside_them(predicted, photos):
    _, expected = predicted
    for name in "abc":
        shutil.copy(photos / f"{name}.png", Path("again/images") / f"{name}.png") if Path(
            "again/images"
        ).is_dir() else (
            Path("again/images").mkdir(parents=True),
            Path("again/masks").mkdir(),
            shutil.copy(photos / f"{name}.png", f"again/images/{name}.png"),
        )
        shutil.copy(f"predictions/{name}_mask.png", f"again/masks/{name}.png")
    data = load_segmentation_data("again", classes="predictions/classes.json", validation_fraction=0.0)
    rows = [row for split in data.values() for row in split]
    assert data.labels == ("artery", "vein") and not data.exclusive and len(rows) == 3
    for row in rows:
        np.testing.assert_array_equal(row["mask"].astype(bool), expected[row["id"]].masks)


def test_overwrite_removes_the_files_of_classes_too(predicted, photos, topolora, adapter):
    done = topolora("predict", "--adapter", adapter, "--images", photos, "--overwrite")
    assert done.status == 0, done.err
    assert not [path.name for path in Path("predictions").iterdir() if "artery" in path.name]
    assert np.asarray(Image.open("predictions/a_mask.png")).max() == 255


def test_a_threshold_a_class_or_one_for_all(photos, topolora, two_classes):
    words = ("predict", "--adapter", two_classes, "--images", "photos/a.png", "--class_masks", "--overwrite")
    for thresholds, expected in (((0, 1), (255, 0)), ((1, 0), (0, 255)), ((0,), (255, 255))):
        assert topolora(*words, "--threshold", *thresholds).status == 0
        masks = [np.asarray(Image.open(f"predictions/a_mask_{label}.png")) for label in ("artery", "vein")]
        assert tuple(np.unique(mask).tolist() for mask in masks) == tuple([value] for value in expected)
    done = topolora(*words, "--threshold", 0.1, 0.2, 0.3)
    assert done.status == 1 and "one for each of 2 classes (artery, vein); got 3" in done.err


@pytest.fixture
def of_classes(tmp_path):
    """Six images with index masks of bars: 1 artery, 2 vein, 3 where they cross."""
    for number in range(6):
        mask = np.zeros((60, 70), np.uint8)
        mask[10 + 4 * number : 14 + 4 * number] += 1
        mask[:, 30:34] += 2
        noise = np.random.default_rng(number).integers(0, 80, (60, 70, 3), dtype=np.uint8)
        save(tmp_path / "data" / "images" / f"{number}.png", noise + mask[..., None] * 50)
        save(tmp_path / "data" / "masks" / f"{number}.png", mask)
    return tmp_path / "data"


def test_scores_are_printed_and_written_by_class(topolora, two_classes, of_classes, no_pictures):
    words = ("score", "--adapter", two_classes, "--dataset", of_classes, "--part", "all", "--classes")
    done = topolora(*words, "artery=1,3", "vein=2,3")
    assert done.status == 0, done.err
    metrics = json.loads(Path("scores/metrics.json").read_text())
    assert metrics["labels"] == ["artery", "vein"] and metrics["threshold"] == [0.5, 0.6] and metrics["n"] == 6
    assert metrics["dice"] == pytest.approx(
        (metrics["classes"]["artery"]["dice"] + metrics["classes"]["vein"]["dice"]) / 2
    )
    pixels = np.array(metrics["confusion"]["pixels"])
    assert metrics["confusion"]["labels"] == ["background", "artery", "vein", "artery+vein"]
    assert pixels.sum() == 6 * 60 * 70 and pixels[3].sum() == 6 * 4 * 4
    with Path("scores/per_image.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["artery", "vein"] * 6
    assert f"{metrics['classes']['vein']['cldice']:.4f}" in done.out and "all together" in done.out


@pytest.mark.parametrize("classes", [("vein=2,3", "artery=1,3"), ("vessel=1,2,3",), ("a=1", "b=2", "both=3")])
def test_data_of_other_classes_or_in_another_order_are_refused(topolora, two_classes, of_classes, classes):
    done = topolora("score", "--adapter", two_classes, "--dataset", of_classes, "--classes", *classes)
    assert done.status == 1 and "predicts artery, vein: name them in --classes as the adapter does" in done.err
