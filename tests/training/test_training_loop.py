import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from tests.training.conftest import Stopped, adapter_bytes, build_in_float64, stop_at
from topolora_hf.adapter_format.presets import PRESETS
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.data.errors import DataError
from topolora_hf.inference.loading import load_network
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.platt_scaling import fit_platt_scaling, logit_counts
from topolora_hf.metrics.report import score_image, score_set
from topolora_hf.training import results
from topolora_hf.training.results import next_steps
from topolora_hf.training.run import split_in_words, train

pytestmark = pytest.mark.usefixtures("no_pictures")


def column(args, name: str) -> list[float]:
    with (Path(args.output_dir) / "history.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def scores_of(model, rows, settings=None, **changes) -> dict:
    """The means of rows scored anew, one image after the other."""
    settings = replace(settings or model.adapter_settings, **changes)
    predictor = Predictor(model, settings)
    maps = [(predictor.probability(row["image"]), row["mask"][0]) for row in rows]
    return score_set([score_image(*each, threshold=settings.threshold) for each in maps])


# One finished run


def test_a_run_fills_its_directory(finished, splits):
    args, returned = finished
    run = Path(args.output_dir)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == returned
    assert list(metrics)[:6] == ["dataset", "split", "protocol", "preset", "base", "threshold"]
    assert (metrics["dataset"], metrics["split"], metrics["n"], metrics["steps"]) == ("crosses", "test", 3, 8)
    with (run / "per_image.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in splits["test"]]
    assert column(args, "step")[:3] == [1, 2, 3] and len(column(args, "loss")) == 8
    assert len(column(args, "val_dice")) == 2 and column(args, "learning_rate")[-1] == 0
    assert json.loads((run / "train_args.json").read_text())["max_steps"] == 8
    for name in ("samples", "curves", "best_and_worst", "reliability", "precision_recall", "score_distribution"):
        Image.open(run / f"{name}.png").verify()


def test_the_saved_adapter_has_the_scores_that_metrics_json_says_and_its_base_those_of_before(finished, splits):
    args, metrics = finished
    model = load_adapter(Path(args.output_dir) / "adapter", base=args.base)
    settings = model.adapter_settings
    assert settings.test_time_flips
    assert scores_of(model, splits["test"])["dice"] == pytest.approx(metrics["dice"], abs=1e-6)
    with model.disable_adapter():
        before = scores_of(model, splits["test"], settings, threshold=0.5, temperature=1.0, logit_bias=0.0)
    assert (before["dice"], before["cldice"]) == pytest.approx((metrics["dice_before"], metrics["cldice_before"]))
    assert metrics["n_before"] == 3


def test_the_calibration_is_fitted_on_validation_images_and_leaves_the_masks(finished, splits):
    args, metrics = finished
    model = load_adapter(Path(args.output_dir) / "adapter", base=args.base)
    settings = model.adapter_settings
    assert (settings.temperature, settings.logit_bias) == (metrics["temperature"], metrics["logit_bias"])
    uncalibrated = Predictor(model, AdapterSettings(**{**vars(settings), "temperature": 1.0, "logit_bias": 0.0}))
    counts = [logit_counts(uncalibrated.probability(row["image"]), row["mask"][0]) for row in splits["validation"]]
    fitted = fit_platt_scaling(counts)
    assert (fitted.temperature, fitted.bias) == pytest.approx((metrics["temperature"], metrics["logit_bias"]), abs=1e-3)
    assert settings.threshold == pytest.approx(float(fitted(0.5)), abs=1e-3) != 0.5
    plain = scores_of(model, splits["test"], temperature=1.0, logit_bias=0.0, threshold=0.5)
    assert plain["dice"] == pytest.approx(metrics["dice"], abs=1e-3)
    assert plain["ece"] == pytest.approx(metrics["ece_before"], abs=1e-5) != metrics["ece"]


def test_the_card_of_a_folder_named_like_a_known_data_set_is_of_the_folder(make_arguments, splits, tmp_path):
    args = make_arguments(dataset=str(tmp_path / "drive"), max_steps=1)
    train(args, splits)
    card = (Path(args.output_dir) / "adapter" / "README.md").read_text()
    assert "of the author's own (drive)" in card and "Digital Retinal" not in card and "Zomba" not in card
    assert str(tmp_path) not in card


def test_nothing_local_is_published(finished):
    args, metrics = finished
    base, adapter = Path(args.base), Path(args.output_dir) / "adapter"
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "topolora_config.json"}
    assert {file.name for file in adapter.iterdir()} == names
    for file in adapter.iterdir():
        for local in (str(base.parent), str(adapter.parent), str(Path.home())):
            assert local.encode() not in file.read_bytes(), (file.name, local)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == base.name
    assert metrics["base"] == base.name and "Dice" in (adapter / "README.md").read_text()


def test_the_checkpoint_holds_only_what_is_trained(finished):
    args, metrics = finished
    tensors = load_file(Path(args.output_dir) / "checkpoints" / "00000008" / "trained.safetensors")
    trained = sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(".settings"))
    assert trained == metrics["trainable_parameters"] < metrics["total_parameters"]


def test_the_last_words_say_where_all_is_and_what_comes_next(finished):
    args, metrics = finished
    words = next_steps(args, metrics)
    run = Path(args.output_dir)
    for path in (run / "metrics.json", run / "samples.png", run / "adapter", run / "adapter" / "README.md"):
        assert str(path) in words and path.exists()
    assert words.endswith(
        f"next      topolora predict --adapter {run / 'adapter'} --base {args.base} --images YOUR_IMAGES"
    )
    assert "the scores are of 1 image" in next_steps(args, {**metrics, "n": 1})


# What is trained


def test_the_loss_that_the_network_returns_is_the_one_that_is_trained(make_arguments, splits):
    """To the bit, with the objective of the run: its schedule, its erosions, its skeletons."""
    seen = []

    def compare(trainer) -> None:
        tiles = [trainer.tiles[number] for number in range(2)]
        batch = {name: torch.stack([tile[name] for tile in tiles]) for name in tiles[0] if name != "id"}
        network = trainer.network.eval()
        with torch.no_grad():
            output = network(**batch)
            trained = trainer.criterion(output.logits, batch["labels"], batch["valid_mask"], batch["skeleton"])
        seen.append((output.loss.item(), trained.total.item(), trainer.criterion.weight_now()))
        network.train()

    args = make_arguments(cldice_schedule="ramp", max_steps=3)
    train(args, splits, on_step=compare)
    assert len(seen) == 3 and all(loss == trained for loss, trained, _ in seen)
    assert seen[0][2] == 0 < seen[1][2]


def test_training_learns(make_arguments, splits):
    rates = {"learning_rate": 5e-3, "detail_learning_rate": 5e-3}
    metrics = train(make_arguments(max_steps=60, score_untrained=True, **rates), splits)
    assert metrics["dice"] > max(0.5, metrics["dice_before"] + 0.2)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_is_loaded_again_with_the_settings_of_its_run(
    make_arguments, splits, preset, stock_sam
):
    args = make_arguments(base=stock_sam("small"), preset=preset, dataset="kvasir", max_steps=1)
    metrics = train(args, splits)
    run = Path(args.output_dir)
    if PRESETS[preset].full:
        model = load_network(str(run / "network"))
    else:
        model = load_adapter(run / "adapter", base=args.base)
    assert model.adapter_settings.view == "full"
    assert scores_of(model, splits["test"])["auroc"] == pytest.approx(metrics["auroc"], abs=1e-5)


class Baseline(nn.Module):
    """One convolution."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.layer(pixel_values))

    def save_pretrained(self, directory):
        save_file(self.state_dict(), Path(directory) / "model.safetensors")


def test_a_baseline_is_trained_through_the_hook(make_arguments, splits):
    def build(args, spec, classes):
        return Baseline(), AdapterSettings(base="", tile_size=args.tile_size)

    args = make_arguments(max_steps=3, cldice_schedule="adaptive")
    assert np.isfinite(train(args, splits, build_network=build)["auroc"])
    tensors = load_file(Path(args.output_dir) / "network" / "model.safetensors")
    assert tensors.keys() == {"layer.weight", "layer.bias"}
    with pytest.raises(ValueError, match="score_untrained scores the base of an adapter"):
        train(make_arguments("other", score_untrained=True), splits, build_network=build)


def test_fewer_images_than_a_batch_still_fill_one(make_arguments, make_rows):
    args = make_arguments(batch_size=4)
    metrics = train(args, {"train": make_rows(1), "validation": make_rows(1, first=1)})
    assert len(column(args, "loss")) == 2
    assert (metrics["split"], metrics["n"]) == ("validation", 1)


def test_a_step_is_the_same_however_its_tiles_are_shared_out(make_arguments, make_rows):
    """Also where some batches, and some tiles of others, have nothing to find."""
    rows = make_rows(6)
    for row in rows[::2]:
        row["mask"] = np.zeros_like(row["mask"])
    splits = {"train": rows, "test": make_rows(1, first=7)}

    shared = {str(size): {"batch_size": size, "gradient_accumulation_steps": 4 // size} for size in (2, 1)}
    runs = {}
    for name, settings in ({"4": {}} | shared).items():
        args = make_arguments(name, **{"batch_size": 4, "max_steps": 4, "cldice_schedule": "fixed", **settings})
        train(args, splits, build_in_float64)
        file = Path(args.output_dir) / "checkpoints" / "00000004" / "trained.safetensors"
        runs[name] = load_file(file), [column(args, term) for term in ("loss", "cldice_loss", "learning_rate")]
    tensors, columns = runs["4"]
    for name in shared:
        np.testing.assert_allclose(runs[name][1], columns, rtol=1e-6)
        for key, tensor in tensors.items():
            torch.testing.assert_close(runs[name][0][key], tensor, rtol=0, atol=1e-5, msg=key)


def test_a_seed_gives_one_adapter_with_checkpointing_too_and_another_seed_another(make_arguments, splits):
    plain, again, other = (
        make_arguments(name, **settings)
        for name, settings in (("a", {}), ("b", {"gradient_checkpointing": True}), ("c", {"seed": 1}))
    )
    for args in (plain, again, other):
        train(args, splits)
    np.testing.assert_allclose(column(again, "loss"), column(plain, "loss"), rtol=1e-5)
    assert adapter_bytes(plain) != adapter_bytes(other)


def test_the_papers_protocol_trains_for_fifty_epochs_without_warm_up(make_arguments, splits):
    args = make_arguments(protocol="paper", max_steps=None, batch_size=3, gradient_accumulation_steps=2)
    rates = []

    def look(trainer) -> None:
        rates.append(trainer.scheduler.get_last_lr()[0])
        assert trainer.criterion.iterations == 9 and trainer.settings.view == "tiles"
        if trainer.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(args, splits, on_step=look)
    steps = 25  # 50 passes over three images, six tiles a step
    assert rates == pytest.approx([5e-4 * (1 + np.cos(np.pi * step / steps)) for step in (1, 2)], rel=1e-6)


# Around it


def test_the_network_is_saved_before_it_is_scored_and_the_same_command_finishes(make_arguments, splits, monkeypatch):
    args = make_arguments()

    def crash(*_, **__):
        raise MemoryError("while scoring")

    with monkeypatch.context() as patch:
        patch.setattr(results, "_before", crash)
        with pytest.raises(MemoryError):
            train(args, splits)
    saved = adapter_bytes(args)
    assert "dice" in train(args, splits) and adapter_bytes(args) == saved


def test_checkpoints_are_written_by_time(make_arguments, splits, monkeypatch):
    monkeypatch.setattr("topolora_hf.training.loop._FIRST_CHECKPOINT_SECONDS", -1)
    args = make_arguments(max_steps=4)
    with pytest.raises(Stopped):
        train(args, splits, on_step=stop_at(3))
    assert [path.name for path in (Path(args.output_dir) / "checkpoints").iterdir()] == ["00000001"]


def test_a_run_says_how_it_splits_few_images_and_how_long_it_will_take(make_arguments, splits, capsys):
    train(make_arguments(max_steps=7), splits)
    captured = capsys.readouterr()
    assert "crosses: 7 images: 3 to train, 1 validation, 3 test (--validation_fraction)" in captured.out
    assert "s a step: less than a minute to go" in captured.out
    assert "of one image" in split_in_words({"train": [1, 2], "validation": [1]})
    assert split_in_words({"train": range(80), "test": range(9)}) == "89 images: 80 to train, 9 test"


@pytest.mark.parametrize(
    ("there", "settings", "message"),
    [
        (["train"], {}, "nothing to score"),
        (["test"], {}, "no train split"),
        (
            ["train", "test"],
            {"calibrate": "validation"},
            "needs validation images .* and test images .* has train, test",
        ),
    ],
)
def test_a_missing_split_is_an_error_that_says_so(make_arguments, splits, there, settings, message):
    with pytest.raises(DataError, match=message):
        train(make_arguments(**settings), {name: splits[name] for name in there})


def test_calibration_may_be_fitted_on_the_training_images(make_arguments, splits):
    metrics = train(make_arguments(calibrate="train"), {name: splits[name] for name in ("train", "test")})
    assert metrics["temperature"] != 1 and metrics["ece"] != metrics["ece_before"]
