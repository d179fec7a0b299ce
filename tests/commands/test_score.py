"""`topolora score`: which images are scored, and with which settings."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from topolora_hf.commands.score import print_metrics
from topolora_hf.data.loading import load_segmentation_data


@pytest.fixture
def score(topolora, adapter, folder, no_pictures):
    """`score(*words)` -> what metrics.json holds, and the scored ids."""

    def run(*words, dataset=folder, adapter=adapter):
        done = topolora("score", "--adapter", adapter, "--dataset", dataset, *words)
        assert done.status == 0, done.err
        metrics = json.loads(Path("scores/metrics.json").read_text())
        assert f"{'dice':27} {metrics['dice']:.4f}" in done.out
        return metrics, [row["id"] for row in csv.DictReader(Path("scores/per_image.csv").open())]

    return run


def test_the_images_scored_are_those_of_the_part_and_the_seed(score, folder):
    metrics, ids = score("--part", "validation", "--seed", "1", "--validation_fraction", "0.4")
    splits = load_segmentation_data(str(folder), seed=1, validation_fraction=0.4)
    assert ids == [row["id"] for row in splits["validation"]] and metrics["n"] == len(ids)
    assert (metrics["dataset"], metrics["split"], metrics["threshold"]) == ("data", "validation", 0.5)


def test_all_images_are_scored_though_splits_share_names(score, folder, topolora, adapter, tmp_path):
    for part, numbers in (("train", range(5)), ("test", range(5, 8))):
        for count, number in enumerate(numbers):
            for kind in ("images", "masks"):
                target = tmp_path / "parts" / part / kind / f"{count}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / kind / f"{number}.png").rename(target)
    _, ids = score("--part", "all", dataset="parts")
    assert len(ids) == 8 and {"test/0", "test/1", "test/2"} < set(ids)
    words = ("score", "--adapter", adapter, "--dataset", "parts", "--part", "all", "--protocol", "paper")
    assert "protocol paper scores validation or test images, got part='all'" in topolora(*words).err


def test_flags_win_over_the_adapters_own_flips_and_scales(score, adapter, tmp_path):
    copy = shutil.copytree(adapter, tmp_path / "copy")
    plain = json.loads((copy / "topolora_config.json").read_text())
    (copy / "topolora_config.json").write_text(
        json.dumps(plain | {"test_time_flips": True, "test_time_scales": [0.8, 1.25]})
    )
    own = score(adapter=copy)[0]
    asked = score("--test_time_flips", "--test_time_scales", "0.8", "1.25")[0]
    undone = score("--no_test_time_flips", "--test_time_scales", "1", adapter=copy)[0]
    without = score()[0]
    for settings in (own, asked):
        assert (settings["test_time_flips"], settings["test_time_scales"]) == (True, [0.8, 1.25])
    assert own["auroc"] == asked["auroc"] != without["auroc"] == undone["auroc"]


@pytest.mark.parametrize("undefined", [None, float("nan")])  # in the file, and before it is written
def test_scores_of_classes_are_printed_as_a_table_with_a_dash_for_what_is_not_defined(undefined, capsys):
    own = dict.fromkeys(("dice", "iou", "precision", "recall", "cldice", "auroc"), 0.5)
    confusion = {"labels": ["background", "artery"], "pixels": [[7, 0], [1, 20]]}
    classes = {"artery": {**own, "precision": undefined, "n_defined": {"precision": 0}}, "vein": own}
    print_metrics({"dice": 0.5, "n_defined": {"dice": 3, "recall": 2}, "classes": classes, "all": own,
                   "intervals": {"dice": [None, None]}, "confusion": confusion})  # fmt: skip
    out = capsys.readouterr().out
    assert "dice 3, recall 2" in out and "{" not in out and "[" not in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert table["vein"] == ["0.5000"] * 6 and table["artery"] == ["1", "20"]
    assert "0.5000  0.5000          -  0.5000" in out


def test_what_cannot_be_scored_is_named(topolora, adapter, folder):
    words = ("score", "--adapter", adapter, "--dataset", folder)
    done = topolora(*words, "--validation_fraction", "0", "--part", "validation")
    assert done.status == 1 and "no 'validation' images; --part may be train, test or all" in done.err
    assert (
        "test_time_scales must be one to 16 numbers from 0.1 to 10" in topolora(*words, "--test_time_scales", "0").err
    )
    assert "nothing at no/such/adapter" in topolora("score", "--adapter", "no/such/adapter", "--dataset", folder).err
    (folder / "images" / "0.png").write_bytes(b"no image")
    (folder / "masks" / "1.png").unlink()
    done = topolora(*words)
    assert done.status == 1 and "images/0.png" in done.err and "images/1.png" in done.err and "skip_bad" in done.err
    assert not Path("scores").exists()


def test_describe_says_what_was_understood_and_what_it_wrote(topolora, folder):
    done = topolora("describe", "--dataset", folder, "--output_dir", "about")
    assert done.status == 0 and "train: 6 images" in done.out
    assert "wrote about/description.json and about/contact_sheet.png" in done.out
    assert json.loads(Path("about/description.json").read_text())["splits"]["train"]["images"] == 6
    assert Image.open("about/contact_sheet.png").size[0] > 100
