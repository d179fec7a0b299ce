"""`topolora predict`: which masks are made, which are left, and what goes wrong while they are read and written."""

import gzip
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topolora_hf.commands import predict as predicting
from topolora_hf.inference.predictor import Predictor

from .conftest import NOISE, save


@pytest.fixture
def predict(topolora, adapter):
    """`predict(*words, images="photos")`: with the shared adapter, into `predictions`."""
    return lambda *words, images="photos": topolora("predict", "--adapter", adapter, "--images", images, *words)


def masks(folder="predictions") -> list[str]:
    return sorted(path.name for path in Path(folder).glob("*_mask.png"))


def times(folder="predictions") -> dict:
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*_mask.png")}


ALL = ["a_mask.png", "b_mask.png", "c_mask.png"]


def test_every_file_that_is_written_is_said_and_is_what_the_predictor_gives(photos, predict, adapter):
    done = predict("--probability", "--centreline")
    assert done.status == 0, done.err
    written = [f"a_{end}" for end in ("probability.png", "overlay.png", "centreline.json", "centreline.png")]
    assert f"photos/a.png: wrote predictions/a_mask.png, {', '.join(written)}" in done.out
    assert " s an image: about " in done.out and "3 masks in " in done.out
    names = {path.name for path in Path("predictions").iterdir()}
    assert names == {f"{n}_{end}" for n in "abc" for end in ("mask.png", *(w[2:] for w in written))} | {
        "predict_args.json"
    }
    from topolora_hf.inference.loading import load_network

    expected = Predictor(load_network(str(adapter)))(photos / "b.png")
    assert 0 < expected.mask.mean() < 1
    np.testing.assert_array_equal(np.asarray(Image.open("predictions/b_mask.png")) == 255, expected.mask)


def test_the_same_command_makes_what_is_missing_and_overwrite_makes_all_again(photos, predict):
    predict()
    first = times()
    Path("predictions/b_mask.png").unlink()
    done = predict()
    assert "2 of 3 images have a mask in predictions already (--overwrite makes it again)" in done.out
    second = times()
    assert {name for name in ALL if second[name] != first[name]} == {"b_mask.png"}
    assert predict("--no_overlay", "--overwrite").status == 0
    third = times()
    assert all(third[name] != second[name] for name in ALL)
    assert len(list(Path("predictions").iterdir())) == 4, "overlays of the masks before are gone"


def test_without_anything_to_do_no_network_is_loaded(photos, predict, monkeypatch):
    predict()
    monkeypatch.setattr("topolora_hf.inference.loading.load_network", None)
    assert predict().status == 0


def test_masks_of_other_settings_or_of_another_hand_are_refused(photos, predict):
    predict("--threshold", "0.4")
    done = predict("--threshold", "0.2")
    assert done.status == 1 and "made with other settings (threshold was [0.4], is [0.2])" in done.err
    assert "--overwrite" in done.err and predict("--threshold", "0.4", "--tile_batch", "1").status == 0
    drawn = save(Path("labels/a_mask.png"), np.eye(48, dtype=np.uint8) * 255).read_bytes()
    done = predict("--output_dir", "labels")
    assert done.status == 1 and "labels/a_mask.png was not made by this command" in done.err
    done = predict("--output_dir", "photos", "--overwrite")
    assert done.status == 1 and "photos is the folder of photos/a.png" in done.err
    assert Path("labels/a_mask.png").read_bytes() == drawn


def test_masks_of_another_image_of_the_same_name_or_of_a_changed_adapter_are_refused(photos, topolora, adapter):
    own = Path(shutil.copytree(adapter, "own"))
    words = ("predict", "--adapter", own, "--no_overlay", "--images")
    assert topolora(*words, photos / "a.png").status == 0
    other = Path(shutil.copy(photos / "b.png", save(Path("others/a.png"), NOISE)))
    first = times()
    done = topolora(*words, other)
    assert done.status == 1 and "a_mask.png already, of photos/a.png, not of others/a.png: choose" in done.err
    moved = Path(shutil.copy(photos / "a.png", other))  # the same photograph at another place is done
    assert "1 of 1 images" in topolora(*words, moved).out and times() == first
    shutil.copy(photos / "c.png", moved)
    assert topolora(*words, moved, photos / "b.png").status == 1 and times() == first, "a.png has changed"
    assert topolora(*words, moved, "--overwrite").status == 0 and times() != first
    settings = own / "topolora_config.json"
    settings.write_text(settings.read_text().replace('"threshold": 0.', '"threshold": 0.1'))
    done = topolora(*words, moved)
    assert done.status == 1 and "a_mask.png already, of own as it was before: choose" in done.err
    assert topolora(*words, photos / "b.png").status == 0, "no mask of this name is there"


def test_overwrite_removes_what_the_command_wrote_and_nothing_else(photos, predict, topolora, two_classes):
    predict("--probability")
    mine = {
        save(Path(f"predictions/a_{name}.png"), NOISE) for name in ("mask_corrected", "probability_notes", "x_mask")
    }
    assert predict("--overwrite").status == 0 and all(file.exists() for file in mine)
    words = ("predict", "--adapter", two_classes, "--images", photos / "a.png", "--output_dir", "classes")
    assert topolora(*words, "--class_masks", "--probability").status == 0
    corrected = save(Path("classes/a_mask_artery_corrected.png"), NOISE)
    assert topolora(*words, "--overwrite").status == 0
    left = {path.name for path in Path("classes").iterdir() if path.name.startswith("a_")}
    assert left == {"a_mask.png", "a_overlay.png", corrected.name}


def test_overwriting_removes_nothing_if_there_is_no_such_adapter(photos, predict, topolora):
    predict()
    first = times()
    done = topolora("predict", "--adapter", "no/such", "--images", "photos", "--overwrite")
    assert done.status == 1 and times() == first


def test_masks_that_are_not_made_again_keep_a_folder_at_its_settings(photos, predict, topolora, two_classes):
    predict("--threshold", "0.4")
    other = ("--threshold", "0.2", "--overwrite")
    done = predict(*other, images="photos/a.png")
    assert done.status == 1
    assert "masks of other images (b_mask.png, c_mask.png), made with other settings (threshold was [0.4]" in done.err
    assert done.err.strip().endswith("choose another output_dir")
    for name in "bc":
        Path(f"predictions/{name}_mask.png").unlink()
    assert predict(*other, images="photos/a.png").status == 0
    words = ("predict", "--images", "photos/a.png", "--overwrite", "--adapter")
    assert topolora(*words, two_classes).status == 0 and Path("predictions/classes.json").exists()
    assert predict("--overwrite", images="photos/a.png").status == 0
    assert not Path("predictions/classes.json").exists(), "of masks that are gone"


def test_a_threshold_and_a_precision_are_those_asked_for(photos, predict):
    for threshold, expected in ((0, 255), (1, 0)):
        predict("--threshold", threshold, "--output_dir", f"at{threshold}", images="photos/a.png")
        assert np.unique(np.asarray(Image.open(f"at{threshold}/a_mask.png"))).tolist() == [expected]
    maps = {}
    for dtype in ("float32", "bfloat16"):
        predict("--dtype", dtype, "--probability", "--output_dir", dtype, images="photos/a.png")
        maps[dtype] = np.asarray(Image.open(f"{dtype}/a_probability.png")) / 65535
    assert 0 < np.abs(maps["float32"] - maps["bfloat16"]).max() < 0.1


def test_files_folders_globs_and_packed_images_are_taken_each_once(photos, topolora, adapter):
    packed = photos / "d.ppm"
    Image.fromarray(NOISE).save(packed)
    (photos / "d.ppm.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    topolora("predict", "--adapter", adapter, "--images", "photos/*.png", "photos/d.ppm.gz", "photos/a.png")
    assert masks() == [*ALL, "d_mask.png"]


def test_images_of_equal_names_do_not_overwrite_each_other(topolora, adapter):
    for name in ("x/a.png", "x/a.jpg", "y/a.png"):
        save(Path(name), NOISE)
    assert topolora("predict", "--adapter", adapter, "--images", "x").status == 0
    assert masks() == ["a.jpg_mask.png", "a.png_mask.png"]
    assert "overwrite each other's masks: a.png" in topolora("predict", "--adapter", adapter, "--images", "x", "y").err


def test_names_of_any_kind_are_kept(photos, predict):
    shutil.rmtree(photos)
    names = ["-rf", "two words", "a\nb;$(touch gone)", "Gefäß'\"", os.fsdecode(b"\xff"), "[x]"]
    for name in names:
        save(photos / f"{name}.png", NOISE)
    assert predict("--probability").status == 0
    assert {f"{name}_mask.png" for name in names} == set(masks()) and not Path("gone").exists()


def test_unreadable_images_are_named_and_the_others_have_their_masks(photos, predict, monkeypatch):
    content = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(content[: len(content) // 2])
    (photos / "empty.png").touch()
    (photos / "disk.png").symlink_to("/proc/self/mem")  # reading it is an error of the device, whoever reads
    listed = predicting.find_images

    def and_then_one_goes(patterns):
        found = listed(patterns)
        (photos / "b.png").unlink()
        return found

    monkeypatch.setattr(predicting, "find_images", and_then_one_goes)
    done = predict()
    assert done.status == 1 and "error: 4 images have no mask:" in done.err
    for name in ("cut.png", "empty.png", "b.png: no such file", "disk.png: cannot be read as an image ([Errno 5]"):
        assert f"photos/{name}" in done.err
    assert masks() == ["a_mask.png", "c_mask.png"]


def test_what_goes_wrong_with_one_image_costs_no_other_its_mask(photos, predict, monkeypatch):
    network = Predictor._uncalibrated

    def as_it_is_but(predictor, image, *rest):
        if (image == np.roll(NOISE, 0, axis=0)).all():
            return np.full(image.shape[:2], np.nan, np.float32)
        if (image == np.roll(NOISE, 1, axis=0)).all():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return network(predictor, image, *rest)

    monkeypatch.setattr(Predictor, "_uncalibrated", as_it_is_but)
    done = predict()
    assert done.status == 1 and "error: 2 images have no mask:" in done.err and masks() == ["c_mask.png"]
    assert "photos/a.png: the network gives not-a-number for 100.0% of the pixels" in done.err
    assert "photos/b.png: there is not enough memory (DefaultCPUAllocator" in done.err


def test_limits_of_memory_are_named_with_what_raises_them(photos, predict, monkeypatch):
    done = predict("--scale", "2000")
    assert "photos/a.png: has 96,000 x 96,000 pixels when it is enlarged 2000 times" in done.err
    monkeypatch.setenv("TOPOLORA_MAX_IMAGE_PIXELS", "2303")
    done = predict("--output_dir", "limited", "--scale", "0.5")
    assert "photos/a.png: is too large for memory" in done.err and "--scale 1" in done.err
    assert "TOPOLORA_MAX_IMAGE_PIXELS" in done.err


def test_nothing_is_loaded_for_images_adapters_or_folders_that_are_not_there(photos, topolora, predict, adapter):
    assert "no images at absent/*.png" in predict(images="absent/*.png").err
    Path("taken").write_text("")
    assert predict("--output_dir", "taken").err == "error: output_dir taken is a file; a folder is needed\n"
    assert "output_dir taken/deeper cannot be made" in predict("--output_dir", "taken/deeper").err
    Path("nothing").mkdir()
    done = topolora("predict", "--adapter", "nothing", "--images", "photos")
    assert done.status == 1 and "nothing holds no topolora_config.json" in done.err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_may_not_be_written_is_named(photos, predict):
    Path("locked").mkdir(mode=0o500)
    assert predict("--output_dir", "locked").err == "error: output_dir locked may not be written to; choose another\n"


@contextmanager
def full_disk():
    """No file may grow beyond 2,000 bytes, as on a disk that is full; nor may the tests' own log, meanwhile."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_leaves_nothing_half_and_the_command_goes_on_after(photos, predict):
    with full_disk():
        done = predict()
    assert done.status == 1 and "cannot write the file (File too large)" in done.err
    assert "predictions/a_overlay.png" in done.err
    assert [path.name for path in Path("predictions").iterdir()] == ["predict_args.json"]
    assert predict().status == 0 and masks() == ALL


def test_what_is_doubtful_is_said_by_the_image_s_name(photos, predict, adapter, tmp_path, topolora):
    other = shutil.copytree(adapter, tmp_path / "strict")
    settings = json.loads((other / "topolora_config.json").read_text())
    (other / "topolora_config.json").write_text(json.dumps(settings | {"foreground_range": [0.01, 0.1]}))
    words = ("predict", "--adapter", other, "--images", "photos/a.png")
    done = topolora(*words, "--threshold", "0")
    assert done.status == 0
    assert "warning: photos/a.png: 100.0% of the image is foreground; in the training images it is at most 10.0%" in (
        done.err
    )
    assert "warning: 1 of them may be wrong" in done.err
    assert not topolora(*words, "--threshold", "1", "--overwrite").err


def test_a_base_predicts_and_a_base_of_it_is_refused(photos, topolora):
    assert topolora("predict", "--adapter", "tiny-random", "--images", "photos/a.png").status == 0
    done = topolora("predict", "--adapter", "tiny", "--base", "tiny", "--images", "photos", "--output_dir", "x")
    assert done.status == 1 and "has no base" in done.err
