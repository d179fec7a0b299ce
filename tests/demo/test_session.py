import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf.demo.page import _show
from topolora_hf.demo.session import Look
from topolora_hf.demo.shelf import AdapterShelf
from topolora_hf.inference.predictor import Prediction


@pytest.fixture
def look(tmp_path):
    """A vessel 3 pixels wide at .9, a fainter one beside it at .3."""
    probability = np.zeros((60, 80), np.float32)
    probability[20:23, 10:70] = 0.9
    probability[40:43, 10:70] = 0.3
    return Look(Prediction(np.full((60, 80, 3), 90, np.uint8), probability[None], (0.5,)), "retina")


def test_the_threshold_moves_and_the_network_does_not_look_again(adapters, photograph, monkeypatch):
    shelf, calls = AdapterShelf(adapters), []
    predict = shelf.predict
    monkeypatch.setattr(shelf, "predict", lambda *arguments: calls.append(1) or predict(*arguments))
    look = Look.at(shelf, adapters[0], photograph)
    assert look.prediction.thresholds == (0.4,) and look.stem == "my retina"
    for threshold in (0.1, 0.9):
        moved = look.with_threshold(threshold)
        np.testing.assert_array_equal(moved.prediction.mask, look.prediction.probability >= threshold)
        assert moved.prediction.probabilities is look.prediction.probabilities
    assert len(calls) == 1


def test_numbers_are_those_of_the_mask_at_the_threshold(look):
    assert dict(look.numbers())["Foreground"] == f"{180 / 4800:.2%}"
    both = dict(look.with_threshold(0.2).numbers())
    assert both["Foreground"] == f"{360 / 4800:.2%}" and both["Image"] == "80 x 60 px"
    assert (both["Branch points"], both["End points"], both["Mean width"]) == ("0", "4", "3.0 px")
    assert dict(look.with_threshold(1.0).numbers())["Mean width"] == "none"


def test_files_follow_the_threshold(look):
    for threshold, foreground in ((0.5, 180), (0.2, 360)):
        files = {Path(path).name: path for path in look.with_threshold(threshold).files()}
        assert (np.asarray(Image.open(files["retina_mask.png"])) == 255).sum() == foreground
        stored = np.asarray(Image.open(files["retina_probability.png"])) / 65535
        np.testing.assert_allclose(stored, look.prediction.probability, atol=1e-5)
        assert Image.open(files["retina_overlay.png"]).size == (80, 60)
        skeleton = np.asarray(Image.open(files["retina_centreline.png"])) == 255
        numbers = json.loads(Path(files["retina_centreline.json"]).read_text())
        assert numbers["length"] == pytest.approx(skeleton.sum() - numbers["end_points"] / 2, abs=2)
        lines = [
            each
            for each in json.loads(Path(files["retina_graph.geojson"]).read_text())["features"]
            if "segment" in each["properties"]
        ]
        assert len(lines) == numbers["segments"] and len(files) == 11


def test_files_go_with_the_last_look_at_them(look):
    folder = Path(look.files()[0]).parent
    moved = look.with_threshold(0.2)
    del look
    moved.files()
    assert folder.is_dir()
    moved._folder.cleanup()
    assert not folder.exists()


def test_pictures_are_of_what_was_chosen(look):
    cyan = (0, 229, 255)
    assert look.picture("mask").getpixel((30, 20)) == cyan and look.picture("mask").getpixel((30, 40)) == (90, 90, 90)
    assert look.picture("centreline").getpixel((30, 21)) == cyan
    assert look.picture("centreline").getpixel((30, 20)) == (90, 90, 90)
    assert look.picture("probability").getpixel((30, 41)) == round(0.3 * 255)
    for view in ("graph", "histogram"):
        assert np.asarray(look.picture(view)).std() > 5
    with pytest.raises(
        ValueError, match="view must be one of mask, centreline, probability, graph, histogram; got 'x'"
    ):
        look.picture("x")
    with pytest.raises(ValueError, match="threshold must be in \\[0, 1\\], got 2"):
        look.with_threshold(2)


def test_of_classes_each_has_its_numbers_its_files_and_its_colour():
    maps = np.zeros((2, 60, 80), np.float32)
    maps[0, 20:23, 10:70], maps[1, 5:50, 30:35] = 0.9, 0.7
    image = np.full((60, 80, 3), 90, np.uint8)
    look = Look(Prediction(image, maps, (0.5, 0.6), ("artery", "vein")), "retina")
    numbers = {name: values for name, *values in look.numbers()}
    assert numbers["Foreground"] == [f"{180 / 4800:.2%}", f"{225 / 4800:.2%}"]
    assert numbers["Threshold"] == ["0.5", "0.6"] and numbers["Mean width"][0] == "3.0 px"
    names = [Path(path).name for path in look.files()]
    ends = (
        "_mask.png _probability_artery.png _probability_vein.png _overlay.png _centreline.png _centreline.json "
        "_segments.csv _graph.graphml _artery.swc _vein.swc _graph.geojson _graph.png _histogram.png _classes.json"
    )
    assert names == [f"retina{end}" for end in ends.split()]
    assert not look.with_threshold(0.8).prediction.masks[1].any()
    assert "| measured | artery | vein |\n|---|---:|---:|\n| Image | 80 x 60 px" in _show(look, "mask")[1]
    colours = [look.picture("mask").getpixel(place) for place in ((15, 20), (30, 5), (30, 20))]
    assert colours == [(255, 105, 30), (86, 180, 233), (255, 255, 255)]
    assert look.picture("probability").getpixel((30, 5)) == tuple(round(0.7 * c) for c in (86, 180, 233))


def test_a_large_picture_is_made_smaller_for_the_screen_alone():
    look = Look(Prediction(np.zeros((200, 3000, 3), np.uint8), np.zeros((1, 200, 3000), np.float32), (0.5,)), "wide")
    assert look.picture("mask").size == (1600, 107)
    assert Image.open(look.files()[2]).size == (3000, 200)
