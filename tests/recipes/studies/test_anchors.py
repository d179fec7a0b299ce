"""Methods of other programs beside ours, from the maps that they wrote."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from compare import CompareArguments, plan_compare
from cross_dataset import CrossDatasetArguments, plan_cross_dataset
from engine import worker
from engine.anchors import Maps
from engine.study import run_study
from topolora_hf.data.errors import DataError
from topolora_hf.files import write_json


def test_maps_are_scored_as_masks_of_ours_are_and_stand_beside_them(crosses, tmp_path, shell):
    """Each map is its image's mask, of probability 0.6, without its upper half."""
    folder = tmp_path / "maps" / "crosses"
    folder.mkdir(parents=True)
    expected = {}
    for file in (crosses / "masks").iterdir():
        mask = np.array(Image.open(file)) > 0
        half = mask & (np.arange(len(mask)) >= 32)[:, None]
        Image.fromarray((153 * half).astype(np.uint8)).save(folder / f"{file.stem}.png")
        expected[file.stem] = 2 * half.sum() / (half.sum() + mask.sum())
    args = CompareArguments(
        datasets=["crosses"], data_dirs=[f"crosses={crosses}"], methods=["unet"], seeds=[1],
        anchors=[f"theirs={folder.parent}"], output_dir=str(tmp_path / "study"), set=["num_workers=0"],
    )  # fmt: skip
    study = plan_compare(args)
    (job,) = [job for job in study.jobs if job.command == "score_anchor"]
    job.directory.mkdir(parents=True)
    write_json(job.directory / "job.json", asdict(job.arguments))
    worker.run_worker(job.command, job.directory / "job.json")
    rows = (job.directory / "per_image.csv").read_text().splitlines()
    ids = [row.split(",")[0] for row in rows[1:]]
    found = json.loads((job.directory / "metrics.json").read_text())
    assert found["dice"] == pytest.approx(np.mean([expected[name] for name in ids]))
    assert found["precision"] == pytest.approx(1)
    run_study(args, study, "", shell())
    text = (tmp_path / "study" / "summary.md").read_text()
    assert f"| crosses | theirs | {found['dice']:.3f} |" in text and "over seeds 1;" in text


def test_across_sets_maps_are_scored_on_every_set(tmp_path):
    args = CrossDatasetArguments(
        datasets=["drive", "hrf"], methods=["unet"], seeds=[0], anchors=["lwnet=maps"], output_dir=str(tmp_path)
    )
    jobs = [job for job in plan_cross_dataset(args).jobs if job.labels["method"] == "lwnet"]
    assert [(job.arguments.adapter, job.arguments.part) for job in jobs] == [
        ("maps/drive", "test"),
        ("maps/hrf", "all"),
    ]
    with pytest.raises(ValueError, match="anchors may not be called unet"):
        CompareArguments(anchors=["unet=maps"])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "there is no map .*a.png"),
        (np.zeros((5, 4), np.uint8), "a.png is 4 x 5, its image 4 x 6"),
        (np.ones((6, 4), np.uint8), "a.png holds 0 and 1: write a mask as 0 and 255"),
        (np.zeros((6, 4, 3), np.uint8), "a.png has mode RGB: a map is grey"),
        (np.zeros((6, 4), np.uint16), "a.png has mode I;16: a map is grey"),
    ],
)
def test_what_is_no_map_of_an_image_is_refused(tmp_path, made, message):
    if made is not None:
        Image.fromarray(made).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        Maps(tmp_path)(np.zeros((6, 4, 3), np.uint8), "a")
