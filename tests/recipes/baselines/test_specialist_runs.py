import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baselines.files import load_specialist
from pretraining import PretrainArguments
from topolora_hf import cli
from topolora_hf.inference.predictor import Predictor
from topolora_hf.metrics.report import score_image
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.run import train


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name="run", **settings)`: a few float32 steps of the small U-Net."""

    def make(name: str = "run", **settings) -> TrainArguments:
        few = {"network": "unet_small", "tile_size": 48, "max_steps": 3, "batch_size": 2, "learning_rate": 1e-3}
        few |= {"num_workers": 0, "num_threads": 1, "mixed_precision": "no", "log_every": 1, "score_untrained": False}
        return TrainArguments(**{"dataset": "crosses", "output_dir": str(tmp_path / name), **few, **settings})

    return make


@pytest.fixture
def folder(tmp_path, splits) -> Path:
    """The rows of `splits` as files."""
    for split, rows in splits.items():
        for row in rows:
            for kind, array in (("images", row["image"]), ("masks", 255 * row["mask"])):
                (tmp_path / "data" / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(tmp_path / "data" / split / kind / f"{row['id']}.png")
    return tmp_path / "data"


def weights(args: TrainArguments) -> bytes:
    return (Path(args.output_dir) / "network" / "model.safetensors").read_bytes()


def test_a_run_of_a_specialist_has_the_metrics_of_ours(make_run, splits):
    args = make_run(score_untrained=True)
    metrics = train(args, splits)
    assert metrics == json.loads((Path(args.output_dir) / "metrics.json").read_text())
    assert (metrics["network"], metrics["preset"], metrics["base"]) == ("unet_small", None, None)
    assert metrics["trainable_parameters"] == metrics["total_parameters"] == pytest.approx(5e5, rel=0.02)
    assert {"dice", "cldice", "dice_before", "seconds", "steps"} <= metrics.keys()
    assert not (Path(args.output_dir) / "adapter").exists()


def test_the_saved_specialist_has_the_scores_that_metrics_json_says(make_run, splits):
    args = make_run(threshold=0.25)
    metrics = train(args, splits)
    predictor = Predictor(load_specialist(Path(args.output_dir) / "network"))
    assert predictor.settings.threshold == metrics["threshold"] == 0.25
    dice = [
        score_image(predictor.probability(row["image"]), row["mask"], row["valid_mask"], 0.25)["dice"]
        for row in splits["test"]
    ]
    assert np.mean(dice) == pytest.approx(metrics["dice"], abs=1e-6)


def test_a_specialist_learns(make_run, splits):
    metrics = train(make_run(max_steps=40, learning_rate=5e-3), splits)
    assert metrics["dice"] > 0.8


def test_the_seed_decides_the_initial_weights(make_run, splits):
    runs = [make_run(name, max_steps=1, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    for args in runs:
        train(args, splits)
    assert weights(runs[0]) == weights(runs[1]) != weights(runs[2])


def test_a_resumed_specialist_ends_with_the_same_bytes(make_run, splits, interrupt):
    """The running statistics of its norms are part of what was trained."""
    through, stopped = (make_run(name, max_steps=4, checkpoint_every=2) for name in ("through", "stopped"))
    train(through, splits)
    interrupt(stopped, splits, step=3)
    stopped.resume = True
    train(stopped, splits)
    assert weights(stopped) == weights(through)


def test_the_commands_take_a_specialists_directory(folder, tmp_path, monkeypatch, capsys):
    def call(main, *words):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        main()

    monkeypatch.chdir(tmp_path)
    few = "--tile_size 48 --max_steps 2 --batch_size 2 --num_workers 0 --num_threads 1 --mixed_precision no".split()
    call(cli.train_main, "--dataset", folder, "--network", "unet_small", *few)
    run = tmp_path / "runs" / "data-unet_small-0"
    assert "network   unet_small, from scratch" in capsys.readouterr().out
    call(cli.score_main, "--adapter", run / "network", "--dataset", folder)
    trained, scored = (json.loads(path.read_text()) for path in (run / "metrics.json", Path("scores/metrics.json")))
    assert scored["dice"] == pytest.approx(trained["dice"], abs=1e-6)
    call(cli.predict_main, "--adapter", run / "network", "--images", folder / "test" / "images")
    assert len(list(Path("predictions").glob("*_mask.png"))) == 3
    with pytest.raises(SystemExit, match="is a whole network, which has no base; got --base tiny"):
        call(cli.score_main, "--adapter", run / "network", "--dataset", folder, "--base", "tiny")


def test_an_unknown_network_is_refused_with_the_list():
    with pytest.raises(ValueError, match="unknown network 'resnet': topolora, or one of unet, .*mask2former"):
        TrainArguments(dataset="drive", network="resnet")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base", "tiny"),
        ("preset", "paper"),
        ("image_size", 512),
        ("detail_channels", 8),
        ("rank", 4),
        ("lora_layers", 1),
        ("detail_learning_rate", 1e-3),
        ("gradient_checkpointing", True),
        ("cache_features", True),
        ("compile", True),
    ],
)
def test_settings_of_our_networks_parts_are_refused_for_a_specialist(name, value):
    with pytest.raises(ValueError, match=f"network 'unet' is trained whole and from scratch: .*{name}={value!r}"):
        TrainArguments(dataset="drive", network="unet", **{name: value})


def test_no_base_is_pretrained_from_a_specialist():
    with pytest.raises(ValueError, match="network 'unet' .*base="):
        PretrainArguments(network="unet")
