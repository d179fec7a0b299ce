import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from topolora_hf import cli
from topolora_hf.data.loading import load_segmentation_data
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.training.arguments import TrainArguments

FEW_STEPS = "--image_size 64 --tile_size 48 --max_steps 1 --batch_size 1 --num_workers 0 --num_threads 1".split()
FEW_STEPS += ["--mixed_precision", "no"]


@pytest.fixture
def call(monkeypatch, tmp_path):
    """`call(main, *words)`: a command in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def run(main, *words) -> None:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        main()

    return run


@pytest.fixture
def fails(call, capsys):
    """`fails(main, *words)` -> the message with which the command ends, exit status not 0."""

    def run(main, *words) -> str:
        with pytest.raises(SystemExit) as exit:
            call(main, *words)
        assert exit.value.code not in (None, 0)
        message = exit.value.code if isinstance(exit.value.code, str) else capsys.readouterr().err
        assert "Traceback" not in message
        return message

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight images with masks, `data/images/0.png` to `7.png`, beside their masks."""
    for number in range(8):
        rng = np.random.default_rng(number)
        mask = np.zeros((60, 70), np.uint8)
        mask[10 + 4 * number : 13 + 4 * number] = 255
        image = rng.integers(0, 80, (60, 70, 3), dtype=np.uint8) + mask[..., None] // 2
        save(tmp_path / "data" / "images" / f"{number}.png", image)
        save(tmp_path / "data" / "masks" / f"{number}.png", mask)
    return tmp_path / "data"


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def train(*words):
    return (cli.train_main, "--base", "tiny", *FEW_STEPS, "--output_dir", "run", *words)


def mask_names(directory: str) -> set[str]:
    return {path.name for path in Path(directory).glob("*_mask.png")}


def test_train_score_and_predict_from_a_folder(call, folder, capsys):
    call(*train("--dataset", folder))
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert (metrics["dataset"], metrics["split"], metrics["n"]) == ("data", "test", 1)
    assert f"dice_before            {metrics['dice_before']:.4f}" in capsys.readouterr().out

    call(cli.score_main, "--adapter", "run/adapter", "--dataset", folder)
    again = json.loads(Path("scores/metrics.json").read_text())
    for name in ("dataset", "split", "threshold", "n"):
        assert again[name] == metrics[name]
    assert again["dice"] == pytest.approx(metrics["dice"], abs=1e-6)
    assert Path("scores/per_image.csv").read_text().count("\n") == 2

    call(cli.predict_main, "--adapter", "run/adapter", "--images", folder / "images", "--probability", "True")
    assert mask_names("predictions") == {f"{number}_mask.png" for number in range(8)}
    assert Image.open("predictions/0_mask.png").size == (70, 60)
    assert Path("predictions/0_probability.png").exists() and Path("predictions/0_overlay.png").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_validation_images_scored_are_those_that_this_seed_left_out_of_training(call, folder, make_adapter, seed):
    flags = ("--seed", seed, "--validation_fraction", "0.4", "--part", "validation")
    call(cli.score_main, "--adapter", make_adapter()[1], "--dataset", folder, *flags)
    ids = [line.split(",")[0] for line in Path("scores/per_image.csv").read_text().splitlines()[1:]]
    splits = load_segmentation_data(str(folder), seed=seed, validation_fraction=0.4)
    assert ids == [row["id"] for row in splits["validation"]]
    assert ids != [
        row["id"] for row in load_segmentation_data(str(folder), seed=2, validation_fraction=0.4)["validation"]
    ]


def test_all_images_are_scored_though_splits_share_names(call, fails, make_adapter, folder, tmp_path):
    for part, numbers in (("train", range(5)), ("test", range(5, 8))):
        for count, number in enumerate(numbers):
            for kind in ("images", "masks"):
                target = tmp_path / "parts" / part / kind / f"{count}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                (folder / kind / f"{number}.png").rename(target)
    words = ("--adapter", make_adapter()[1], "--dataset", "parts", "--part", "all")
    call(cli.score_main, *words)
    lines = Path("scores/per_image.csv").read_text().splitlines()
    assert len(lines) == 9 and {"test/0", "test/1", "test/2"} < {line.split(",")[0] for line in lines}
    message = fails(cli.score_main, *words, "--protocol", "paper")
    assert "protocol paper scores validation or test images alone, got part='all'" in message


def test_predict_takes_a_file_a_folder_and_a_glob(call, make_adapter, tmp_path):
    adapter = make_adapter()[1]
    for name in ("a.png", "b.jpg", "c.png"):
        save(tmp_path / "photos" / name, np.zeros((50, 40, 3), np.uint8))
    words = ("--adapter", adapter, "--overlay", "False", "--images")
    call(cli.predict_main, *words, "photos/a.png", "--output_dir", "one")
    call(cli.predict_main, *words, "photos", "--output_dir", "all")
    call(cli.predict_main, *words, "photos/*.png", "photos/b.jpg", "--output_dir", "several")
    assert mask_names("one") == {"a_mask.png"}
    assert mask_names("all") == mask_names("several") == {"a_mask.png", "b_mask.png", "c_mask.png"}
    assert not list(Path("all").glob("*overlay*"))


def test_compressed_images_are_found_and_their_results_called_as_others(call, make_adapter, tmp_path):
    save(tmp_path / "photos" / "im0001.ppm", np.zeros((50, 40, 3), np.uint8))
    packed = tmp_path / "photos" / "im0001.ppm"
    (tmp_path / "photos" / "im0001.ppm.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    call(cli.predict_main, "--adapter", make_adapter()[1], "--images", "photos")
    assert mask_names("predictions") == {"im0001_mask.png"}


def test_images_of_equal_names_do_not_overwrite_each_other(call, fails, make_adapter, tmp_path):
    adapter = make_adapter()[1]
    for name in ("x/a.png", "x/a.jpg", "y/a.png"):
        save(tmp_path / name, np.zeros((50, 40, 3), np.uint8))
    call(cli.predict_main, "--adapter", adapter, "--images", "x")
    assert mask_names("predictions") == {"a.png_mask.png", "a.jpg_mask.png"}
    assert "a.png" in fails(cli.predict_main, "--adapter", adapter, "--images", "x", "y")
    save(tmp_path / "x/a.png.tif", np.zeros((50, 40, 3), np.uint8))
    assert "overwrite each other's masks: a.png" in fails(cli.predict_main, "--adapter", adapter, "--images", "x")


def test_the_threshold_flag_wins_over_the_adapters(call, fails, make_adapter, tmp_path):
    adapter = make_adapter()[1]
    save(tmp_path / "a.png", np.zeros((50, 40, 3), np.uint8))
    for threshold, expected in (("0", 255), ("1", 0)):
        call(
            cli.predict_main, "--adapter", adapter, "--images", "a.png", "--threshold", threshold, "--overwrite", "True"
        )
        assert np.unique(np.asarray(Image.open("predictions/a_mask.png"))).tolist() == [expected]
    message = fails(cli.predict_main, "--adapter", adapter, "--images", "a.png", "--threshold", "1.5")
    assert "threshold must be in [0, 1], got 1.5" in message


def test_precision_is_chosen_on_the_command_line(call, fails, make_adapter, tmp_path):
    adapter = make_adapter()[1]
    save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    words = ("--adapter", adapter, "--images", "a.png", "--probability", "True", "--overlay", "False")
    maps = {}
    for dtype in ("float32", "bfloat16", "float16"):
        call(cli.predict_main, *words, "--dtype", dtype, "--output_dir", dtype)
        maps[dtype] = np.asarray(Image.open(f"{dtype}/a_probability.png")) / 65535
    for dtype, most in (("bfloat16", 0.1), ("float16", 0.02)):
        assert 0 < np.abs(maps[dtype] - maps["float32"]).max() < most
    call(cli.predict_main, *words, "--dtype", "float32", "--tile_batch", "1", "--output_dir", "float32")
    assert "dtype was 'float32', is 'bfloat16'" in fails(
        cli.predict_main, *words, "--dtype", "bfloat16", "--output_dir", "float32"
    )
    assert "dtype must be one of float32, bfloat16, float16; got 'int8'" in fails(
        cli.predict_main, *words, "--dtype", "int8", "--output_dir", "int8"
    )


def test_the_flips_flag_wins_over_the_adapters_own(call, make_adapter, folder):
    adapter = make_adapter()[1]
    settings = json.loads((adapter / "topolora_config.json").read_text())
    scores = {}
    for own in (False, True):
        (adapter / "topolora_config.json").write_text(json.dumps(settings | {"test_time_flips": own}))
        for flag in ((), ("--test_time_flips", "True"), ("--test_time_flips", "False")):
            call(cli.score_main, "--adapter", adapter, "--dataset", folder, *flag)
            metrics = json.loads(Path("scores/metrics.json").read_text())
            assert metrics["test_time_flips"] == (flag[1] == "True" if flag else own)
            scores.setdefault(metrics["test_time_flips"], set()).add(metrics["auroc"])
    assert len(scores[False]) == len(scores[True]) == 1 and scores[False] != scores[True]


def test_the_scales_flag_wins_over_the_adapters_own(call, fails, make_adapter, folder):
    adapter = make_adapter()[1]
    settings = json.loads((adapter / "topolora_config.json").read_text())
    scores = {}
    for own in ([1.0], [0.8, 1.25]):
        (adapter / "topolora_config.json").write_text(json.dumps(settings | {"test_time_scales": own}))
        for flag, expected in (((), own), (("0.8", "1.25"), [0.8, 1.25]), (("1",), [1.0])):
            call(cli.score_main, "--adapter", adapter, "--dataset", folder, *flag and ("--test_time_scales", *flag))
            metrics = json.loads(Path("scores/metrics.json").read_text())
            assert metrics["test_time_scales"] == expected
            scores.setdefault(len(expected), set()).add(metrics["auroc"])
    assert len(scores[1]) == len(scores[2]) == 1 and scores[1] != scores[2]
    words = ("--adapter", adapter, "--dataset", folder, "--test_time_scales", "0")
    assert "test_time_scales must be one to 16 numbers from 0.1 to 10, got (0.0,)" in fails(cli.score_main, *words)


def test_an_adapter_of_a_local_base_predicts_when_told_where_the_base_is(
    call, fails, make_adapter, stock_sam, tmp_path
):
    base = stock_sam("small")
    adapter = make_adapter(base=base, detail_channels=4)[1]
    save(tmp_path / "a.png", np.zeros((50, 40, 3), np.uint8))
    words = ("--adapter", adapter, "--images", "a.png")
    message = fails(cli.predict_main, *words)
    assert "on the base stock-sam-small" in message and "--base" in message
    call(cli.predict_main, *words, "--base", base)
    assert mask_names("predictions") == {"a_mask.png"}


def test_a_base_predicts_and_scores_as_it_comes(call, fails, folder, tmp_path):
    TopoSamForSegmentation.from_pretrained("topolora_hf/tiny").save_pretrained(tmp_path / "base")
    for name, output in (("tiny", "one"), ("base", "two")):
        call(cli.predict_main, "--adapter", name, "--images", folder / "images" / "0.png", "--output_dir", output)
        call(cli.score_main, "--adapter", name, "--dataset", folder, "--output_dir", f"{output}-scores")
    one, two = (np.asarray(Image.open(f"{output}/0_mask.png")) for output in ("one", "two"))
    np.testing.assert_array_equal(one, two)
    dice = [json.loads(Path(f"{output}-scores/metrics.json").read_text())["dice"] for output in ("one", "two")]
    assert dice[0] == dice[1] > 0
    message = fails(cli.predict_main, "--adapter", "tiny", "--images", folder / "images", "--base", "tiny")
    assert "is a whole network, which has no base" in message


def test_a_base_that_cannot_be_downloaded_is_named_with_the_way_out(fails, folder):
    message = fails(cli.train_main, "--dataset", folder, "--output_dir", "run")
    assert "facebook/sam-vit-base" in message and "--base tiny" in message


def test_a_settings_file_is_read_and_flags_win_over_it(call, folder, tmp_path):
    lines = [
        "base: tiny",
        "max_steps: 1",
        "image_size: 64",
        "tile_size: 48",
        "batch_size: 1",
        "num_workers: 0",
        "num_threads: 1",
    ]
    lines += ["mixed_precision: no", "learning_rate: 1e-4", "log_with: null", "augmentation: false", "seed: 1"]
    (tmp_path / "settings.yaml").write_text("\n".join([f"dataset: {folder}", *lines]))
    call(cli.train_main, "settings.yaml", "--seed", "3", "--output_dir", "run")
    settings = json.loads(Path("run/train_args.json").read_text())
    assert settings["seed"] == 3
    assert (settings["learning_rate"], settings["mixed_precision"]) == (1e-4, "no")
    assert (settings["augmentation"], settings["log_with"]) == (False, None)


def test_a_json_file_of_settings_may_hold_a_list(call, make_adapter, tmp_path):
    images = [str(save(tmp_path / name, np.zeros((50, 40, 3), np.uint8))) for name in ("a.png", "b.png")]
    settings = {"adapter": str(make_adapter()[1]), "images": images, "threshold": 0.25, "overlay": False}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    call(cli.predict_main, "settings.json")
    assert mask_names("predictions") == {"a_mask.png", "b_mask.png"}


@pytest.mark.parametrize("text", ["- drive", "dataset: {name: drive}", "dataset: [drive", "drive"])
def test_a_file_that_is_no_list_of_settings_is_named(fails, tmp_path, text):
    (tmp_path / "settings.yaml").write_text(text)
    assert "settings.yaml" in fails(cli.train_main, "settings.yaml")


def test_an_unknown_setting_is_named(fails, tmp_path):
    (tmp_path / "settings.yaml").write_text("dataset: synthetic\nmax_stepz: 3")
    assert "max_stepz" in fails(cli.train_main, "settings.yaml")
    assert "--stepz" in fails(*train("--dataset", "synthetic", "--stepz", "3"))


def test_an_unknown_data_set_lists_the_names(fails):
    message = fails(*train("--dataset", "retina"))
    assert message.startswith("error: unknown data set 'retina'")
    for name in ("drive", "kvasir", "synthetic", "folder"):
        assert name in message


def test_a_wrong_layout_says_what_was_expected(fails, folder):
    message = fails(*train("--dataset", "drive", "--data_dir", folder))
    assert "1st_manual" in message and str(folder) in message
    assert "data_dir" in fails(*train("--dataset", "drive"))


@pytest.mark.parametrize("command", ["train", "score"])
def test_every_bad_file_is_named(fails, folder, command, make_adapter):
    words = train("--dataset", folder)
    if command == "score":
        words = (cli.score_main, "--adapter", make_adapter()[1], "--dataset", folder)
    (folder / "images" / "0.png").write_bytes(b"no image")
    (folder / "masks" / "1.png").unlink()
    save(folder / "masks" / "2.png", np.zeros((60, 71), np.uint8))
    message = fails(*words)
    for text in ("images/0.png", "images/1.png", "2.png is 70x60", "2.png is 71x60", "skip_bad"):
        assert text in message
    assert not Path("run").exists() and not Path("scores").exists()


def test_skip_bad_leaves_out_what_is_bad(call, folder):
    for number in (0, 1):
        (folder / "masks" / f"{number}.png").unlink()
    call(*train("--dataset", folder, "--skip_bad"))
    assert json.loads(Path("run/metrics.json").read_text())["n"] == 1


def test_an_empty_folder_and_masks_without_foreground_are_errors(fails, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(*train("--dataset", tmp_path / "empty"))
    for path in (folder / "masks").iterdir():
        save(path, np.zeros((60, 70), np.uint8))
    message = fails(*train("--dataset", folder))
    assert "foreground" in message and "masks/3.png" in message


def test_a_folder_without_training_images_is_an_error(fails, folder, tmp_path):
    (tmp_path / "only" / "test").parent.mkdir()
    folder.rename(tmp_path / "only" / "test")
    assert "no train split" in fails(*train("--dataset", tmp_path / "only"))


def test_an_image_that_cannot_be_read_is_named_at_prediction(fails, make_adapter, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert "broken.png" in fails(cli.predict_main, "--adapter", make_adapter()[1], "--images", "broken.png")
    assert "absent" in fails(cli.predict_main, "--adapter", make_adapter()[1], "--images", "absent/*.png")


def test_an_adapter_that_is_none_is_named(fails, tmp_path):
    (tmp_path / "nothing").mkdir()
    save(tmp_path / "a.png", np.zeros((50, 40, 3), np.uint8))
    message = fails(cli.predict_main, "--adapter", "nothing", "--images", "a.png")
    assert "nothing holds no topolora_config.json" in message
    message = fails(cli.score_main, "--adapter", "no/such/adapter", "--dataset", "synthetic")
    assert "no adapter at no/such/adapter" in message


def test_a_split_that_is_not_there_is_named(fails, folder, make_adapter):
    words = ("--adapter", make_adapter()[1], "--dataset", folder, "--validation_fraction", "0", "--part", "validation")
    assert "no 'validation' images; --part may be train, test or all" in fails(cli.score_main, *words)


def test_the_installed_command_says_what_it_can_do(call, fails, capsys):
    with pytest.raises(SystemExit) as exit:
        call(cli.main, "--help")
    assert exit.value.code == 0
    assert "predict" in capsys.readouterr().out
    assert "no command" in fails(cli.main)
    assert "unknown command 'segment'" in fails(cli.main, "segment")
    assert "--adapter" in fails(cli.main, "predict")


def test_help_shows_every_setting_with_its_text(call, capsys):
    with pytest.raises(SystemExit) as exit:
        call(cli.train_main, "--help")
    assert exit.value.code == 0
    shown = "".join(capsys.readouterr().out.split())
    for name, field in TrainArguments.__dataclass_fields__.items():
        assert f"--{name}" in shown
        assert "".join(field.metadata["help"].split()) in shown, name


def test_the_second_grader_is_scored_on_every_image_that_both_marked(call, fails, tmp_path, capsys):
    mask = np.zeros((40, 40), np.uint8)
    mask[10:14] = 255
    moved = np.roll(mask, 2, axis=0)
    for number in range(28):
        name = f"Image_{number // 2 + 1:02d}{'LR'[number % 2]}"
        noise = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        save(tmp_path / "chase" / f"{name}.png", noise)
        (tmp_path / "chase" / f"{name}.png").rename(tmp_path / "chase" / f"{name}.jpg")
        for grader, drawn in (("1st", mask), ("2nd", moved)):
            save(tmp_path / "chase" / f"{name}_{grader}HO.png", drawn)
    call(cli.graders_main, "--dataset", "chase_db1", "--data_dir", "chase", "--fov", "none")
    metrics = json.loads((tmp_path / "graders" / "metrics.json").read_text())
    assert metrics["n"] == 28 and metrics["dice"] == metrics["precision"] == metrics["recall"] == 0.5
    assert len((tmp_path / "graders" / "per_image.csv").read_text().splitlines()) == 29
    assert "[0.5000, 0.5000]" in capsys.readouterr().out
    assert "nothing to choose by grader=2" in fails(
        cli.graders_main, "--dataset", "chase_db1", "--data_dir", "chase", "--grader", "2"
    )


def test_a_data_set_with_one_grader_says_so(fails, folder):
    assert "masks of 1 grader(s), got grader 2" in fails(cli.graders_main, "--dataset", folder)


def test_describe_says_what_was_understood(call, folder, tmp_path, capsys):
    call(cli.describe_main, "--dataset", folder)
    assert (tmp_path / "description" / "contact_sheet.png").exists()
    assert "train: 6 images" in capsys.readouterr().out
    assert json.loads((tmp_path / "description" / "description.json").read_text())


@pytest.fixture
def photos(call, tmp_path):
    paths = [tmp_path / "photos" / name for name in ("a.png", "b.jpg", "c d.png")]
    for path in paths:
        save(path, np.zeros((50, 40, 3), np.uint8))
    return paths


def test_predictions_go_on_where_they_stopped(call, fails, make_adapter, photos, capsys):
    words = ("--adapter", make_adapter()[1], "--images", "photos", "--centreline", "True")
    call(cli.predict_main, *words)
    first = {path: path.stat().st_mtime_ns for path in Path("predictions").glob("*_mask.png")}
    removed = next(iter(first))
    removed.unlink()
    call(cli.predict_main, *words)
    second = {path: path.stat().st_mtime_ns for path in first}
    assert {path for path in first if second[path] != first[path]} == {removed}
    assert json.loads(Path(f"{str(removed).removesuffix('_mask.png')}_centreline.json").read_text())["length"] >= 0
    train_again(words[1])
    call(cli.predict_main, *words)
    third = {path: path.stat().st_mtime_ns for path in first}
    assert all(third[path] != second[path] for path in first)
    assert "threshold was None, is 0.2" in fails(cli.predict_main, *words, "--threshold", "0.2")
    call(cli.predict_main, *words, "--threshold", "0.2", "--overwrite", "True")
    assert all(path.stat().st_mtime_ns != third[path] for path in first)


def train_again(adapter):
    """Other weights, in files that are as old as they were."""
    weights = Path(adapter, "adapter_model.safetensors")
    before = weights.stat()
    tensors = {
        name: tensor * 1.01 if tensor.is_floating_point() else tensor for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_mask_is_never_taken_for_that_of_another_image_of_its_name(call, fails, make_adapter, photos, capsys):
    words = ("--adapter", make_adapter()[1], "--threshold", "0", "--images")
    call(cli.predict_main, *words, "photos/a.png")
    save(Path("others/a.png"), np.full((50, 40, 3), 255, np.uint8))
    message = fails(cli.predict_main, *words, "others")
    assert "predictions/a_mask.png is of another image than others/a.png" in message and "--overwrite" in message
    Path("photos").rename("moved")
    capsys.readouterr()
    call(cli.predict_main, *words, "moved/a.png")
    assert "1 of 1 masks were in predictions already" in capsys.readouterr().out
    save(Path("moved/a.png"), np.full((50, 40, 3), 9, np.uint8))
    assert "is of another image" in fails(cli.predict_main, *words, "moved"), "it changed, and lies elsewhere"
    call(cli.predict_main, *words, "moved/a.png", "--overwrite", "True")
    save(Path("moved/a.png"), np.full((50, 40, 3), 99, np.uint8))
    capsys.readouterr()
    call(cli.predict_main, *words, "moved/a.png")
    assert "0 of 1 masks were in predictions already" in capsys.readouterr().out


def test_masks_are_not_relabelled_by_overwriting_some_of_them(call, make_adapter, photos):
    words = ("--adapter", make_adapter()[1], "--images")
    call(cli.predict_main, *words, "photos", "--threshold", "1")
    call(cli.predict_main, *words, "photos/a.png", "--threshold", "0", "--overwrite", "True")
    call(cli.predict_main, *words, "photos", "--threshold", "0")
    for path in Path("predictions").glob("*_mask.png"):
        assert np.asarray(Image.open(path)).min() == 255


def test_a_mask_that_was_edited_is_not_overwritten(call, fails, make_adapter, photos):
    words = ("--adapter", make_adapter()[1], "--images", "photos")
    call(cli.predict_main, *words)
    Image.fromarray(np.eye(50, 40, dtype=np.uint8) * 255).save("predictions/a_mask.png")
    assert "predictions/a_mask.png does not say what it was predicted from" in fails(cli.predict_main, *words)


def test_one_bad_image_does_not_cost_the_others_their_masks(call, fails, make_adapter, photos):
    Path("photos/broken.png").write_bytes(b"no picture")
    message = fails(cli.predict_main, "--adapter", make_adapter()[1], "--images", "photos")
    assert "1 images have no mask" in message and "broken.png" in message
    assert mask_names("predictions") == {f"{path.stem}_mask.png" for path in photos}
