"""Adapters to pick, an image to drop, and pages that are served."""

import numpy as np
import pytest
from PIL import Image

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.demo.page import build_page, launch_options
from topolora_hf.demo.shelf import AdapterShelf


@pytest.fixture
def adapters(make_adapter):
    """Directories of two adapters of one form, whose thresholds and sizes differ."""
    directories = []
    for seed, image_size, threshold in ((1, 64, 0.4), (2, 32, 0.6)):
        directory = make_adapter("topolora", seed=seed, image_size=image_size)[1]
        settings = AdapterSettings.from_pretrained(directory)
        settings.threshold = threshold
        settings.save(directory)
        directories.append(str(directory))
    return directories


@pytest.fixture
def photograph(tmp_path):
    """A file of 70 x 50 pixels."""
    path = tmp_path / "my retina.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def serve():
    """`serve(shelf)`: the page on a free port of loopback; returns its address."""
    pytest.importorskip("gradio", reason="needs the package of extra `demo`")
    pages = []

    def start(shelf: AdapterShelf) -> str:
        page = build_page(shelf)
        pages.append(page)
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
        return address

    yield start
    for page in pages:
        page.close(verbose=False)
