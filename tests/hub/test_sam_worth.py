"""What SAM adds, by its one command: weights and images from the Hub, every run in a process of its own, one page."""

import json

import pytest

from .conftest import ROOT
from .test_push_and_load import polyps, small_sam, succeed  # noqa: F401 (a fixture)


@pytest.mark.slow
def test_one_command_fetches_trains_scores_and_writes_the_page(hub, small_sam, fresh_process, tmp_path):  # noqa: F811
    small_sam("facebook/sam-vit-base")
    hub.add("datasets", "Angelou0516/kvasir-seg", {"data/train-00000-of-00001.parquet": polyps(12)})
    words = "--datasets kvasir --seeds 0 --few 2 --max_steps 2 --num_threads 1"
    words += " --set image_size=32 tile_size=48 batch_size=2 num_workers=0 mixed_precision=no"
    command = [str(ROOT / "recipes/studies/sam_worth.py"), *words.split()]
    said = "\n".join(succeed(fresh_process(command)))
    assert "7 of 7 runs are left: about 0 h" in said and "s a step" in said
    study = tmp_path / "studies" / "sam_worth"
    page = (study / "sam_worth.md").read_text()
    commit = hub.repositories["models", "facebook/sam-vit-base"].head
    assert f"Base: facebook/sam-vit-base at revision {commit}. Data sets: kvasir (the Hub)." in page
    assert "Runs: 7 done." in page and "| kvasir | all |" in page and "Optimizer steps of a run: 2." in page
    scores = [json.loads(file.read_text()) for file in study.glob("kvasir/*/*/0/metrics.json")]
    assert len(scores) == 7 and all(0 <= one["dice"] <= 1 for one in scores)
    assert "0 of 7 runs are left" in "\n".join(succeed(fresh_process(command)))
