"""The page in a real headless Chromium, driven as a person would."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf.adapters.loading import load_adapter
from topolora_hf.demo.shelf import AdapterShelf
from topolora_hf.inference.predictor import Predictor

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --no-proxy-server --window-size=1400,1160"
).split()


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(switch)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


def wait_until(condition, seconds: float = 60):
    """What the condition gives, once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.2)
    return value


def element(browser, selector: str):
    return wait_until(lambda: browser.find_elements("css selector", selector))[0]


def text_of(browser, selector: str) -> str:
    return element(browser, selector).text


def requested(browser) -> set[str]:
    """The addresses that the page asked for since the last call."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}


def test_a_person_drops_an_image_moves_the_threshold_and_downloads(browser, serve, adapters, photograph, tmp_path):
    expected = Predictor(load_adapter(adapters[0]))(photograph)
    address = serve(AdapterShelf([*adapters, "tiny"]))
    requested(browser)
    browser.get(address)
    element(browser, "input[type=file]").send_keys(str(photograph))
    wait_until(lambda: "Branch points" in text_of(browser, "#numbers"))
    assert f"{expected.mask.mean():.2%}" in text_of(browser, "#numbers")
    slider = element(browser, "input[type=range]")
    wait_until(lambda: float(slider.get_attribute("value")) == 0.4)

    shown = [picture.get_attribute("src") for picture in browser.find_elements("css selector", "img")]
    slider.send_keys("\ue014" * 25)  # the arrow to the right: .4 becomes .65
    wanted = f"{(expected.probability >= 0.65).mean():.2%}"
    wait_until(lambda: wanted in text_of(browser, "#numbers"))
    assert [picture.get_attribute("src") for picture in browser.find_elements("css selector", "img")] != shown

    def downloaded(name: str) -> Path | None:
        file = tmp_path / "downloads" / name
        return file if file.exists() else None

    element(browser, "a[download$='_mask.png']").click()
    mask = np.asarray(Image.open(wait_until(lambda: downloaded("my retina_mask.png")))) == 255
    np.testing.assert_array_equal(mask, expected.probability >= 0.65)

    everywhere = {url for url in requested(browser) if url.startswith("http") and not url.startswith(address)}
    assert not everywhere, "the page asks other servers"
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
