"""What goes wrong while predictions are read and written: each fault is named, and what could be done is done."""

import os
import resource
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from topolora_hf import cli
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.commands import predict as predicting
from topolora_hf.data.decode import decode_mask
from topolora_hf.data.errors import DataError
from topolora_hf.inference.predictor import Predictor
from topolora_hf.network.segmenter import TopoSamForSegmentation

NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)  # one tile


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    network = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", image_size=32, tile_size=48)
    directory = tmp_path_factory.mktemp("adapter")
    save_adapter(create_adapter(network, "topolora"), AdapterSettings.of_network(network), directory)
    return directory


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three images, and their folder's parent as the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in "abc":
        Image.fromarray(NOISE).save(f"photos/{name}.png")
    return Path("photos")


@pytest.fixture
def predict(monkeypatch, adapter):
    """`predict(*words)` -> what the command ends with, None when all went well."""

    def run(*words, images="photos"):
        command = ["predict", "--adapter", adapter, "--images", images, *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        try:
            cli.predict_main()
        except SystemExit as exit:
            return exit.code
        return None

    return run


def masks(folder="predictions"):
    return sorted(path.name for path in Path(folder).glob("*_mask.png"))


@contextmanager
def full_disk():
    """No file may grow beyond 2,000 bytes, as on a disk that is full; nor may the tests' own log, meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_with_the_file_and_leaves_nothing_half(photos, predict):
    with full_disk():
        message = predict()
    assert message.startswith("error: ") and "cannot write the file (File too large)" in message
    assert "predictions/a_overlay.png" in message
    left = [path.name for path in Path("predictions").iterdir()]
    assert left == ["predict_args.json"]


def test_a_command_that_met_a_full_disk_goes_on_where_it_stopped(photos, predict):
    with full_disk():
        message = predict()
    assert "cannot write" in message
    assert predict() is None
    assert masks() == ["a_mask.png", "b_mask.png", "c_mask.png"]


def test_masks_larger_than_pillow_likes_are_read_again(photos, predict, monkeypatch, capsys):
    assert predict() is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    capsys.readouterr()
    assert predict() is None
    assert "3 of 3 masks were in predictions already" in capsys.readouterr().out


def test_an_output_folder_that_is_a_file_is_named(photos, predict):
    Path("taken").write_text("")
    assert predict("--output_dir", "taken") == "error: output_dir taken is a file; a folder is needed"
    assert "output_dir taken/deeper cannot be made" in predict("--output_dir", "taken/deeper")


def test_masks_that_were_not_predicted_are_never_overwritten(photos, predict):
    mask = np.eye(48, dtype=np.uint8) * 255
    Path("labels").mkdir()
    own = [folder / "a_mask.png" for folder in (photos, Path("labels"))]
    for path in own:
        Image.fromarray(mask).save(path)
    message = predict("--output_dir", "photos", "--overwrite", "True", images="photos/a.png")
    assert "photos is the folder of photos/a.png" in message
    message = predict("--output_dir", "labels", images="photos/a.png")
    assert "labels/a_mask.png does not say what it was predicted from" in message
    for path in own:
        np.testing.assert_array_equal(np.asarray(Image.open(path)), mask)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_may_not_be_written_is_named(photos, predict):
    Path("locked").mkdir(mode=0o500)
    assert predict("--output_dir", "locked") == "error: output_dir locked may not be written to; choose another"


def test_unreadable_images_are_named_and_the_others_have_their_masks(photos, predict):
    whole = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").touch()
    (photos / "text.png").write_text("no image")
    (photos / "disk.png").symlink_to("/proc/self/mem")  # reading it is an error of the device, whoever reads
    message = predict()
    assert message.startswith("error: 4 images have no mask:")
    for name in ("cut.png", "empty.png", "text.png", "disk.png: cannot be read as an image ([Errno 5]"):
        assert f"photos/{name}" in message
    assert masks() == ["a_mask.png", "b_mask.png", "c_mask.png"]


def test_an_image_that_is_deleted_after_it_was_listed_is_named(photos, predict, monkeypatch):
    listed = predicting.find_images

    def and_then_gone(patterns):
        found = listed(patterns)
        (photos / "b.png").unlink()
        return found

    monkeypatch.setattr(predicting, "find_images", and_then_gone)  # the moment between listing and reading
    assert predict() == "error: 1 images have no mask:\nphotos/b.png: no such file"
    assert masks() == ["a_mask.png", "c_mask.png"]


def test_an_image_that_is_deleted_or_replaced_while_it_is_predicted_is_noticed(photos, predict, monkeypatch):
    predicted = Predictor.__call__

    def and_then_others(predictor, image):
        prediction = predicted(predictor, image)
        (photos / "b.png").unlink(missing_ok=True)
        Image.fromarray(NOISE[::-1]).save(photos / "a.png")
        return prediction

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Predictor, "__call__", and_then_others)
        assert predict() == "error: 1 images have no mask:\nphotos/b.png: no such file"
    of_old_image = Path("predictions/a_mask.png").read_bytes()
    assert predict() is None
    assert Path("predictions/a_mask.png").read_bytes() != of_old_image
    assert masks() == ["a_mask.png", "c_mask.png"]


def test_overwriting_leaves_nothing_of_the_masks_before(photos, predict):
    assert predict("--probability", "True", "--centreline", "True") is None
    assert predict("--overlay", "False", "--overwrite", "True") is None
    left = sorted(path.name for path in Path("predictions").iterdir())
    assert left == ["a_mask.png", "b_mask.png", "c_mask.png", "predict_args.json"]


def test_names_of_any_kind_are_kept_and_too_long_ones_shortened_apart(photos, predict):
    shutil.rmtree(photos)
    photos.mkdir()
    names = ["-rf", "two words", "a\nb;$(touch gone)", "=1+1", "Gefäß'\"", os.fsdecode(b"\xff"), "[x]"]
    long = ["n" * 250 + "1", "n" * 250 + "2", "ß" * 125]
    for name in names + long:
        Image.fromarray(NOISE).save(photos / f"{name}.png")
    assert predict("--probability", "True", "--centreline", "True") is None
    assert {f"{name}_mask.png" for name in names} <= set(masks())
    assert len(masks()) == len(names + long) and not Path("gone").exists()
    assert len(list(Path("predictions").glob("*"))) == 5 * len(masks()) + 1


def test_a_scale_that_no_memory_has_room_for_is_refused(photos, predict):
    message = predict("--scale", "2000")
    assert "photos/a.png: has 96,000 x 96,000 pixels when it is enlarged 2000 times" in message
    assert "scale must be positive and finite, got inf" in predict("--scale", "inf")


def test_an_image_over_the_limit_is_named_with_what_raises_it(photos, predict, monkeypatch):
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "2303")
    message = predict()
    assert "photos/a.png: has 48 x 48 pixels, more than the 2,303 pixels allowed" in message
    assert "TOPOLORA_MAX_IMAGE_PIXELS" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_in_a_float_image_are_black_or_white(tmp_path, adapter, value):
    array = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    array[10, 20] = value
    np.save(tmp_path / "a.npy", array)
    Image.fromarray(array).save(tmp_path / "a.tif")
    predictor = Predictor(load_adapter(adapter))
    for name in ("a.npy", "a.tif"):
        prediction = predictor(tmp_path / name)
        assert (prediction.image[10, 20] == (255 if value == np.inf else 0)).all()
        assert np.isfinite(prediction.probability).all()


def test_settings_that_are_no_plain_list_are_named(photos, predict, monkeypatch):
    for text in ("a: [[b]]", "a: {b: c}", "&a [*a]", "[" * 100_000, "a: !!python/object/apply:os.system [touch gone]"):
        Path("settings.yaml").write_text(text)
        monkeypatch.setattr(sys, "argv", ["predict", "settings.yaml"])
        with pytest.raises(SystemExit) as exit:
            cli.predict_main()
        assert exit.value.code == 2 or "settings.yaml" in exit.value.code
    assert not Path("gone").exists()


def test_an_infinite_mask_is_refused(tmp_path):
    mask = np.zeros((5, 5))
    mask[2, 2] = np.inf
    np.save(tmp_path / "mask.npy", mask)
    with pytest.raises(DataError, match=r"mask.npy: holds infinite values"):
        decode_mask(tmp_path / "mask.npy")
