"""The page by its own client: what a browser asks it, without a browser."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf.demo.page import require_gradio
from topolora_hf.demo.shelf import AdapterShelf

ROOT = Path(__file__).parents[2]


@pytest.fixture
def visit(serve):
    """`visit(shelf)`: a visitor's client."""

    def start(shelf: AdapterShelf):
        address = serve(shelf)
        return pytest.importorskip("gradio_client").Client(address, verbose=False, analytics_enabled=False)

    return start


def dropped(photograph):
    from gradio_client import handle_file

    return handle_file(str(photograph))


def test_an_image_is_seen_once_and_thresholded_often(visit, adapters, photograph, monkeypatch):
    shelf, calls = AdapterShelf([*adapters, "tiny"]), []
    expected, predict = shelf.predict(adapters[0], photograph), shelf.predict
    monkeypatch.setattr(shelf, "predict", lambda *arguments: calls.append(arguments[0]) or predict(*arguments))
    visitor = visit(shelf)

    threshold, picture, numbers, files = visitor.predict(dropped(photograph), adapters[0], "mask", api_name="/see")
    assert threshold["value"] == 0.4 if isinstance(threshold, dict) else threshold == 0.4
    assert Image.open(picture).size == (70, 50) and "| Branch points |" in numbers
    names = {Path(file).name: file for file in files}
    assert list(names) == [
        f"my retina{name}"
        for name in (
            "_mask.png",
            "_probability.png",
            "_overlay.png",
            "_centreline.png",
            "_centreline.json",
            "_segments.csv",
        )
        + ("_graph.graphml", ".swc", "_graph.geojson", "_graph.png", "_histogram.png")
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(names["my retina_mask.png"])) == 255, expected.mask)

    for value in (0.2, 0.7):
        _, _, files = visitor.predict(value, "centreline", api_name="/move")
        mask = np.asarray(Image.open(files[0])) == 255
        np.testing.assert_array_equal(mask, expected.probability >= value)
    grey = np.asarray(Image.open(visitor.predict("probability", api_name="/turn")).convert("L"))
    np.testing.assert_allclose(grey / 255, expected.probability, atol=0.005)
    assert calls == [adapters[0]]


def test_another_adapter_looks_anew_at_its_own_threshold(visit, adapters, photograph):
    visitor = visit(AdapterShelf(adapters))
    visitor.predict(dropped(photograph), adapters[0], "mask", api_name="/see")
    threshold, *_ = visitor.predict(dropped(photograph), adapters[1], "mask", api_name="/pick")
    assert threshold["value"] == 0.6 if isinstance(threshold, dict) else threshold == 0.6


def test_what_cannot_be_segmented_leaves_nothing_on_the_page(visit, adapters, photograph, tmp_path):
    visitor = visit(AdapterShelf([adapters[0], str(tmp_path / "nowhere")]))
    visitor.predict(dropped(photograph), adapters[0], "mask", api_name="/see")
    _, picture, numbers, files = visitor.predict(
        dropped(photograph), str(tmp_path / "nowhere"), "mask", api_name="/pick"
    )
    assert not picture and not numbers and not files
    assert visitor.predict("probability", api_name="/turn") is None


def test_an_adapter_that_the_page_does_not_offer_is_refused(visit, adapters, photograph):
    visitor = visit(AdapterShelf(adapters[:1]))
    with pytest.raises(Exception, match="choices"):
        visitor.predict(dropped(photograph), adapters[1], "mask", api_name="/see")


def test_visitors_do_not_see_each_others_images(serve, adapters, photograph):
    client = pytest.importorskip("gradio_client")
    address = serve(AdapterShelf(adapters))
    first, second = (client.Client(address, verbose=False, analytics_enabled=False) for _ in range(2))
    first.predict(dropped(photograph), adapters[0], "mask", api_name="/see")
    assert second.predict("mask", api_name="/turn") is None
    assert first.predict("mask", api_name="/turn") is not None


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'topolora_hf\[demo\]'"):
        require_gradio()


def test_the_command_says_what_is_wrong(tmp_path):
    pytest.importorskip("gradio", reason="needs the package of extra `demo`")
    command = [sys.executable, str(ROOT / "recipes/demo.py"), "--adapters", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and f"error: {tmp_path} holds no topolora_config.json" in done.stderr
    assert "Traceback" not in done.stderr
