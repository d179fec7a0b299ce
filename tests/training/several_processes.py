"""What each of several processes does in the tests: `accelerate launch several_processes.py WORK.json`.

The file lists runs (settings of `TrainArguments`), and where to write the scores of an untrained network.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from tests.training.conftest import build_in_float64, make_crosses
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.commands.predict import PredictArguments, predict
from topolora_hf.files import write_json
from topolora_hf.inference.predictor import Predictor
from topolora_hf.network.segmenter import TopoSamForSegmentation
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.run import train
from topolora_hf.training.scoring import score_rows
from topolora_hf.training.setup import build_accelerator, build_network


def make_splits() -> dict[str, list[dict]]:
    """Seven images to score; of those to train on, some without any foreground."""
    train = make_crosses(6, first=10)
    for row in train[::3]:
        row["mask"] = np.zeros_like(row["mask"])
    return {"train": train, "validation": make_crosses(1, first=20), "test": make_crosses(7)}


def score_untrained(base: str, path: Path, accelerator: Accelerator) -> None:
    """Scores seven images, shared out over the processes, with one network."""
    network = TopoSamForSegmentation.from_pretrained(base, image_size=64, tile_size=48)
    settings = AdapterSettings(base=base, image_size=64, tile_size=48)
    scores = score_rows(Predictor(network, settings), make_splits()["test"], accelerator)
    if accelerator.is_main_process:
        write_json(path, {"rows": scores.rows})


def predict_images(work: dict) -> None:
    """Predicts images, shared out over the processes."""
    predict(PredictArguments(adapter=work["network"], images=[work["images"]], output_dir=work["masks"]))


def do(work: dict) -> None:
    """The runs one after another, each with process group and state of its own."""
    for settings, port in zip(work["runs"], work["ports"], strict=True):
        # Each run meets at a port of its own: a group cannot be made twice through the launcher's.
        os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
        AcceleratorState._reset_state(True)
        GradientState._reset_state()
        args = TrainArguments(**settings)
        if work.get("scores"):
            score_untrained(args.base, Path(work.pop("scores")), build_accelerator(args))
            predict_images(work)
        train(args, make_splits(), build_in_float64 if args.preset != "seglab" else build_network)


if __name__ == "__main__":
    do(json.loads(Path(sys.argv[1]).read_text()))
