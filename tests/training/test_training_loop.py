import csv
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from topolora_hf.adapter_format.presets import PRESETS
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.data.errors import DataError
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.platt_scaling import fit_platt_scaling, logit_counts
from topolora_hf.metrics.report import score_image, score_set
from topolora_hf.training import averaging, loop, setup
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.checkpoints import read_checkpoint
from topolora_hf.training.run import train

PROJECT = Path(__file__).resolve().parents[2]


def history_of(args) -> list[dict]:
    with (Path(args.output_dir) / "history.csv").open() as file:
        return list(csv.DictReader(file))


def column(args, name: str) -> list[float]:
    return [float(row[name]) for row in history_of(args) if row[name]]


def adapter_bytes(args) -> bytes:
    return (Path(args.output_dir) / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_run_fills_its_directory(make_arguments, splits):
    args = make_arguments(score_untrained=True, evaluate_every=1)
    returned = train(args, splits)
    run = Path(args.output_dir)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == returned
    assert list(metrics)[:8] == ["dataset", "split", "protocol", "preset", "base", "threshold", "seed", "dice"]
    assert {"iou", "precision", "recall", "cldice", "n", "dice_before"} <= metrics.keys()
    assert (metrics["dataset"], metrics["split"], metrics["protocol"], metrics["n"]) == ("crosses", "test", "native", 3)
    with (run / "per_image.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in splits["test"]]
    assert [int(row["step"]) for row in history_of(args) if row["loss"]] == [1, 2]
    assert len(column(args, "val_dice")) == 2
    assert json.loads((run / "train_args.json").read_text())["max_steps"] == 2
    for name in ("samples.png", "curves.png"):
        Image.open(run / name).verify()


@pytest.mark.parametrize(
    "settings, context", [({}, True), ({"preset": "detail_only"}, True), ({"detail_context": False}, False)]
)
def test_the_saved_adapter_has_the_scores_that_metrics_json_says(make_arguments, splits, settings, context):
    args = make_arguments(max_steps=3, **settings)
    metrics = train(args, splits)
    predictor = Predictor(load_adapter(Path(args.output_dir) / "adapter", base=args.base))
    assert predictor.settings.detail_context == context
    if context:
        tensors = load_file(Path(args.output_dir) / "adapter" / "adapter_model.safetensors")
        assert tensors["base_model.model.detail_branch.context.4.conv_out.weight"].any()
    dice = [
        score_image(predictor.probability(row["image"]), row["mask"], row["valid_mask"])["dice"]
        for row in splits["test"]
    ]
    assert np.mean(dice) == pytest.approx(metrics["dice"], abs=1e-6)


def test_dice_before_is_the_base_itself(make_arguments, splits):
    args = make_arguments(score_untrained=True)
    metrics = train(args, splits)
    predictor = Predictor(load_adapter(Path(args.output_dir) / "adapter", base=args.base))
    with predictor.model.disable_adapter():
        dice = [score_image(predictor.probability(row["image"]), row["mask"])["dice"] for row in splits["test"]]
    assert np.mean(dice) == pytest.approx(metrics["dice_before"], abs=1e-6)


def test_training_learns(make_arguments, splits):
    rates = {"learning_rate": 5e-3, "detail_learning_rate": 5e-3}
    metrics = train(make_arguments(max_steps=60, score_untrained=True, **rates), splits)
    assert metrics["dice"] > max(0.5, metrics["dice_before"] + 0.2)


def test_a_whole_network_is_read_with_the_settings_of_its_run(make_arguments, splits):
    args = make_arguments(dataset="kvasir", preset="whole", threshold=0.3, test_time_flips=True)
    metrics = train(args, splits)
    network = load_network(str(Path(args.output_dir) / "network"))
    settings = network.adapter_settings
    assert (settings.view, settings.threshold, settings.test_time_flips) == ("whole", 0.3, True)
    predictor = Predictor(network)
    maps = [(predictor.probability(row["image"]), row["mask"]) for row in splits["test"]]
    assert metrics["dice"] == pytest.approx(score_set([score_image(*each, threshold=0.3) for each in maps])["dice"])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(make_arguments, splits, preset):
    channels = 4 if PRESETS[preset].detail_branch else None
    args = make_arguments(preset=preset, detail_channels=channels)
    assert np.isfinite(train(args, splits)["dice"])
    if PRESETS[preset].whole:
        load_network(str(Path(args.output_dir) / "network"))
    else:
        load_adapter(Path(args.output_dir) / "adapter", base=args.base)


def test_without_a_test_split_validation_is_scored_and_named(make_arguments, splits):
    metrics = train(make_arguments(), {"train": splits["train"], "validation": splits["validation"]})
    assert (metrics["split"], metrics["n"]) == ("validation", 1)


def test_without_a_validation_split_there_are_no_validation_scores(make_arguments, splits):
    args = make_arguments(evaluate_every=1)
    assert train(args, {"train": splits["train"], "test": splits["test"]})["split"] == "test"
    assert not [name for name in history_of(args)[0] if name.startswith("val_")]


@pytest.mark.parametrize("there, message", [("train", "nothing to score"), ("test", "no train split")])
def test_a_missing_split_is_an_error_that_says_so(make_arguments, splits, there, message):
    with pytest.raises(DataError, match=message):
        train(make_arguments(), {there: splits[there]})


def test_fewer_images_than_a_batch_still_fill_one(make_arguments, make_rows):
    args = make_arguments(batch_size=4)
    train(args, {"train": make_rows(1), "test": make_rows(1, first=1)})
    assert len(column(args, "loss")) == 2


def test_accumulated_batches_are_one_large_batch(make_arguments, splits):
    whole = make_arguments("whole", batch_size=4, max_steps=4)
    parts = make_arguments("parts", batch_size=2, gradient_accumulation_steps=2, max_steps=4)
    train(whole, splits)
    train(parts, splits)
    assert column(parts, "learning_rate") == column(whole, "learning_rate")
    assert column(parts, "learning_rate")[-1] == 0
    # The logged loss is that of all batches of a step, and the steps taken are the same.
    np.testing.assert_allclose(column(parts, "loss"), column(whole, "loss"), rtol=1e-3)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(make_arguments, splits):
    runs = [make_arguments(name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    for args in runs:
        train(args, splits)
    assert adapter_bytes(runs[0]) == adapter_bytes(runs[1]) != adapter_bytes(runs[2])


def test_the_cost_of_sams_own_mask_is_added_by_its_weight(make_arguments, splits):
    losses = {}
    for weight in (0.0, 0.5, 1.0):
        args = make_arguments(f"weight-{weight}", coarse_weight=weight, max_steps=1)
        train(args, splits)
        losses[weight] = float(column(args, "loss")[0])
    cost = losses[1.0] - losses[0.0]
    assert cost > 0.5 and losses[0.5] - losses[0.0] == pytest.approx(cost / 2, rel=1e-4)
    adapters = [
        load_file(Path(args.output_dir).with_name(f"weight-{weight}") / "adapter/adapter_model.safetensors")
        for weight in (0.0, 1.0)
    ]
    changed = [name for name in adapters[0] if not torch.equal(*(adapter[name] for adapter in adapters))]
    assert any("output_hypernetworks_mlps" in name for name in changed)


def test_gradient_checkpointing_changes_nothing_but_memory(make_arguments, splits):
    plain, recomputing = make_arguments("plain"), make_arguments("recomputing", gradient_checkpointing=True)
    train(plain, splits)
    train(recomputing, splits)
    np.testing.assert_allclose(column(recomputing, "loss"), column(plain, "loss"), rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_workers": 1},
        {
            "gradient_accumulation_steps": 2,
            "cldice_schedule": "adaptive",
            "preset": "seglab",
            "ema_decay": 0.9,
            "decoder_init": "scratch",
        },
    ],
    ids=["plain", "worker", "accumulating, adaptive, BatchNorm, averaging, from scratch"],
)
def test_a_resumed_run_ends_with_the_same_bytes(make_arguments, splits, interrupt, monkeypatch, settings):
    settings = {"max_steps": 8, "evaluate_every": 3, "checkpoint_every": 2, **settings}
    if "preset" in settings:
        settings["detail_channels"] = None
    monkeypatch.setattr(setup, "_STEPS_AN_EPOCH", 5)  # the checkpoint of step 6 is within the second epoch
    through, stopped = make_arguments("through", **settings), make_arguments("stopped", **settings)
    train(through, splits)
    interrupt(stopped, splits, step=7)
    assert not (Path(stopped.output_dir) / "adapter").exists()
    assert read_checkpoint(Path(stopped.output_dir) / "checkpoints").note["step"] == 6
    torch.rand(7)  # another process would be in another random state
    train(stopped, splits)
    assert adapter_bytes(stopped) == adapter_bytes(through)
    assert history_of(stopped) == history_of(through)


def test_the_time_of_a_resumed_run_counts_all_its_starts(make_arguments, splits, interrupt):
    args = make_arguments(max_steps=4, evaluate_every=4, checkpoint_every=2)
    interrupt(args, splits, step=3)
    note = Path(args.output_dir) / "checkpoints/00000002/checkpoint.json"
    values = json.loads(note.read_text())
    assert 0 < values["seconds"] < 1000
    note.write_text(json.dumps({**values, "seconds": 1000.0}))
    assert 1000 < train(args, splits)["seconds"] < 2000


def test_what_is_scored_and_saved_is_the_average_of_the_weights(make_arguments, splits, monkeypatch):
    args = make_arguments(max_steps=4, evaluate_every=2, ema_decay=0.5)
    seen, validated = [], []
    update, score = averaging.WeightAverage.update, loop.Trainer.score

    def watched_update(average, step):
        if not seen:
            seen.append({name: tensor.clone() for name, tensor in average.tensors.items()})
        live = dict(zip(average.tensors, average._live, strict=True))
        seen.append({name: tensor.clone() for name, tensor in live.items()})
        return update(average, step)

    def watched_score(trainer, split, **changes):
        if split == "validation":
            validated.append({name: tensor.clone() for name, tensor in loop.trained_tensors(trainer.network).items()})
        return score(trainer, split, **changes)

    monkeypatch.setattr(averaging.WeightAverage, "update", watched_update)
    monkeypatch.setattr(loop.Trainer, "score", watched_score)
    metrics = train(args, splits)

    expected, after = seen[0], []
    for step, live in enumerate(seen[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * tensor + (1 - decay) * live[name] for name, tensor in expected.items()}
        after.append(expected)
    for averages, step in zip(validated, (2, 4), strict=True):
        for name, tensor in after[step - 1].items():
            torch.testing.assert_close(averages[name], tensor)
    checkpoint = Path(args.output_dir) / "checkpoints" / "00000004"
    stored, live = load_file(checkpoint / "averaged.safetensors"), load_file(checkpoint / "trained.safetensors")
    saved = load_file(Path(args.output_dir) / "adapter" / "adapter_model.safetensors")
    matched = 0
    for name, tensor in after[-1].items():
        torch.testing.assert_close(stored[name], tensor)
        assert torch.equal(live[name], seen[-1][name])
        in_file = name.replace(".default", "").replace(".modules_to_save", "")
        matched += in_file in saved and torch.equal(saved[in_file], stored[name])
    assert matched == len(after[-1])
    predictor = Predictor(load_adapter(Path(args.output_dir) / "adapter", base=args.base))
    auroc = [score_image(predictor.probability(row["image"]), row["mask"])["auroc"] for row in splits["test"]]
    assert np.mean(auroc) == pytest.approx(metrics["auroc"], abs=1e-5)


def test_epochs_are_passes_over_the_training_images(make_arguments, splits):
    args = make_arguments(max_steps=None, epochs=2.5, batch_size=1, gradient_accumulation_steps=2)
    metrics = train(args, splits)
    assert metrics["steps"] == 4  # 7.5 tiles, two a step
    assert column(args, "step")[-1] == 4 and column(args, "learning_rate")[-1] == 0
    assert setup.count_steps(args, images=3, processes=2) == 2


def test_the_calibration_is_fitted_on_validation_and_the_gain_is_shown(make_arguments, splits):
    args = make_arguments(
        max_steps=8, calibrate=True, choose_threshold=True, test_time_flips=True, test_time_scales=[1, 1.25]
    )
    metrics = train(args, splits)
    model = load_adapter(Path(args.output_dir) / "adapter", base=args.base)
    settings = model.adapter_settings
    for name in ("temperature", "logit_bias", "threshold"):
        assert getattr(settings, name) == metrics[name]
    assert settings.temperature != 1 and settings.logit_bias != 0
    assert settings.test_time_flips and settings.test_time_scales == (1, 1.25)

    def scores(split: str) -> dict:
        predictor = Predictor(model)
        maps = [(predictor.probability(row["image"]), row["mask"]) for row in splits[split]]
        return score_set([score_image(*each, threshold=settings.threshold) for each in maps])

    calibrated, on_validation = scores("test"), scores("validation")
    settings.temperature, settings.logit_bias = 1.0, 0.0
    logit = torch.tensor(settings.threshold).double().logit()
    settings.threshold = float(((logit - metrics["logit_bias"]) * metrics["temperature"]).sigmoid())
    uncalibrated = scores("test")
    for name in ("ece", "ece_foreground", "dice"):
        assert metrics[name] == pytest.approx(calibrated[name], abs=1e-5)
    assert metrics["ece_before"] == pytest.approx(uncalibrated["ece"], abs=1e-5)
    assert metrics["ece_foreground_before"] == pytest.approx(uncalibrated["ece_foreground"], abs=1e-3)
    assert uncalibrated["dice"] == pytest.approx(calibrated["dice"], abs=1e-3)
    assert scores("validation")["ece"] > on_validation["ece"]


def test_calibration_may_be_fitted_on_the_training_images(make_arguments, splits):
    without = {name: splits[name] for name in ("train", "test")}
    args = make_arguments(max_steps=4, calibrate=True, calibrate_on="train")
    metrics = train(args, without)
    model = load_adapter(Path(args.output_dir) / "adapter", base=args.base)
    predictor = Predictor(model, replace(model.adapter_settings, temperature=1.0, logit_bias=0.0))
    counts = [logit_counts(predictor.probability(row["image"]), row["mask"]) for row in splits["train"]]
    fitted = fit_platt_scaling(counts)
    assert metrics["temperature"] == pytest.approx(fitted.temperature, rel=1e-3)
    assert metrics["logit_bias"] == pytest.approx(fitted.bias, abs=1e-3)


def test_what_calibration_is_fitted_on_is_one_of_two(make_arguments):
    with pytest.raises(ValueError, match="calibrate_on must be one of validation, train; got 'test'"):
        make_arguments(calibrate=True, calibrate_on="test")
    with pytest.raises(ValueError, match="calibrate_on='train' is for runs with calibrate"):
        make_arguments(calibrate_on="train")


def test_calibration_leaves_the_masks(make_arguments, splits):
    metrics = {
        value: train(make_arguments(max_steps=4, calibrate=value, overwrite=True), splits) for value in (False, True)
    }
    assert metrics[True]["threshold"] != metrics[False]["threshold"] == 0.5
    for name in ("dice", "cldice", "precision", "recall"):
        assert metrics[True][name] == pytest.approx(metrics[False][name], abs=1e-6)
    assert metrics[True]["ece"] != metrics[False]["ece"] == pytest.approx(metrics[True]["ece_before"], abs=1e-6)


@pytest.mark.parametrize("name", ["calibrate", "choose_threshold"])
@pytest.mark.parametrize("other", ["validation", "test"])
def test_what_is_chosen_on_validation_images_is_not_scored_on_them(make_arguments, splits, name, other):
    with pytest.raises(DataError, match=f"{name} needs validation images .* and test images .* has train, {other}"):
        train(make_arguments(**{name: True}), {"train": splits["train"], other: splits[other]})


def test_nothing_local_is_published(make_arguments, splits, stock_sam):
    args = make_arguments()
    metrics = train(args, splits)
    base = Path(stock_sam("small"))
    assert metrics["base"] == base.name
    adapter = Path(args.output_dir) / "adapter"
    assert {file.name for file in adapter.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "topolora_config.json",
    }
    for file in adapter.iterdir():
        for local in (str(base.parent), str(adapter.parent), str(Path.home())):
            assert local.encode() not in file.read_bytes(), (file.name, local)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == base.name
    assert "Dice" in (adapter / "README.md").read_text()


def test_the_checkpoint_holds_only_what_is_trained(make_arguments, splits):
    args = make_arguments()
    metrics = train(args, splits)
    tensors = load_file(Path(args.output_dir) / "checkpoints" / "00000002" / "trained.safetensors")
    trained = sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(".settings"))
    assert trained == metrics["trainable_parameters"] < metrics["total_parameters"]


def test_settings_reach_tensorboard(make_arguments, splits):
    pytest.importorskip("tensorboard", reason="needs the package of extra `tracking`")
    args = make_arguments(log_with="tensorboard", max_steps=1)
    train(args, splits)
    assert list(Path(args.output_dir).rglob("events.out.tfevents*"))


def test_gradients_need_not_be_clipped(make_arguments, splits):
    args = make_arguments(max_grad_norm=math.inf, max_steps=1)
    train(args, splits)
    assert TrainArguments(**json.loads((Path(args.output_dir) / "train_args.json").read_text())) == args


def test_a_tracker_that_is_not_installed_is_an_error(make_arguments, splits, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(ValueError, match="log_with=tensorboard"):
        train(make_arguments(log_with="tensorboard"), splits)


@pytest.mark.parametrize("ema_decay", ["0", "0.9"])
def test_two_processes_train_and_score_every_image_once(tmp_path, make_rows, stock_sam, ema_decay):
    """Preset seglab has batch norms and parameters that no loss reaches; the adaptive schedule trains the objective."""
    for split, first in (("train", 3), ("test", 0)):
        for row in make_rows(3, first=first):
            for kind, array in (("images", row["image"]), ("masks", row["mask"] * 255)):
                (tmp_path / "data" / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(tmp_path / "data" / split / kind / f"{row['id']}.png")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [
        str(PROJECT / "recipes" / "train.py"),
        "--dataset",
        str(tmp_path / "data"),
        "--base",
        stock_sam("small"),
    ]
    command += ["--preset", "seglab", "--cldice_schedule", "adaptive", "--max_steps", "3", "--image_size", "64"]
    command += [
        "--tile_size",
        "48",
        "--batch_size",
        "2",
        "--num_workers",
        "0",
        "--log_every",
        "1",
        "--learning_rate",
        "1e-3",
    ]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command += ["--mixed_precision", "no", "--ema_decay", ema_decay, "--output_dir", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "per_image.csv").open() as file:
        scored = list(csv.DictReader(file))
    assert [row["id"] for row in scored] == ["image0", "image1", "image2"]
    # Whichever process scored an image, it did so with what was saved.
    predictor = Predictor(load_adapter(tmp_path / "run" / "adapter", base=stock_sam("small")))
    for row, sample in zip(scored, make_rows(3), strict=True):
        error = score_image(predictor.probability(sample["image"]), sample["mask"])["ece"]
        assert float(row["ece"]) == pytest.approx(error, abs=1e-6)
    with (tmp_path / "run" / "history.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file) if row["loss"]]
    assert rates == pytest.approx([7.5e-4, 2.5e-4, 0])  # a cosine over three steps, whatever the number of processes
    assert read_checkpoint(tmp_path / "run" / "checkpoints").note["processes"] == 2
    printed = [line for line in done.stdout.splitlines() if line.startswith("dice ")]
    assert len(printed) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_regions_train_the_same(make_arguments, splits):
    plain, compiled = make_arguments("plain", max_steps=3), make_arguments("compiled", max_steps=3, compile=True)
    for args in (plain, compiled):
        train(args, splits)
    assert column(compiled, "loss") == pytest.approx(column(plain, "loss"), rel=1e-4)
