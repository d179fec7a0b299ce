import csv
import json
import runpy
import sys
from dataclasses import asdict

import pytest
from PIL import Image

import compare
from compare import CompareArguments, plan_compare
from cross_dataset import CrossDatasetArguments, plan_cross_dataset
from engine import worker
from engine.jobs import State
from engine.study import run_study
from topolora_hf.commands.parser import SettingsParser
from topolora_hf.files import write_json

ADAPTERS = {"methods": ["topolora", "detail_only"], "datasets": ["synthetic"], "seeds": [0, 1]}


@pytest.fixture
def args(tmp_path):
    return CompareArguments(**ADAPTERS, output_dir=str(tmp_path / "compare"))


def test_a_study_writes_its_tables_and_its_picture(args, tmp_path, shell):
    study = plan_compare(args)
    failed = run_study(args, study, "python compare.py", shell(**{"synthetic/topolora/1": "echo no luck; exit 1"}))
    assert [job.name for job in failed] == ["synthetic/topolora/1"]
    output = tmp_path / "compare"
    with (output / "table.csv").open() as file:
        states = {row["run"]: (row["state"], row["dice"]) for row in csv.DictReader(file)}
    assert states["synthetic/topolora/0"] == ("done", "0.5")
    assert states["synthetic/topolora/1"] == ("failed", "")
    text = (output / "summary.md").read_text()
    assert "| synthetic | topolora | 0.500 (1) | 1 of 2, 1 failed |" in text
    assert "| synthetic | detail_only | 0.500 ± 0.000 | 2 |" in text
    assert "python compare.py" in text
    assert "| synthetic | +0.0000 | – | – | – | – | – | 1 of 2 |" in text
    assert r"detail\_only & 0.500 $\pm$ 0.000" in (output / "summary.tex").read_text()
    assert len((output / "summary.csv").read_text().splitlines()) == 3
    Image.open(output / "summary.png").verify()


def test_only_the_named_runs_are_done(args, shell, capsys):
    args.only = "topolora/1"
    study = plan_compare(args)
    assert run_study(args, study, "", shell()) == []
    assert [job.name for job in study.jobs if job.state == State.DONE] == ["synthetic/topolora/1"]
    args.only, args.dry_run = None, True
    capsys.readouterr()
    run_study(args, study, "", shell())
    listed = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["done", "synthetic/topolora/1"] in [[state.strip(), name] for state, name in listed]
    assert sum(state.strip() == "to do" for state, _ in listed) == 3


def test_what_a_named_run_follows_is_done_too(tmp_path, shell):
    args = CrossDatasetArguments(
        datasets=["synthetic", "drive"], methods=["unet"], seeds=[0], only="synthetic.*on-drive"
    )
    args.output_dir = str(tmp_path / "cross")
    study = plan_cross_dataset(args)
    run_study(args, study, "", shell())
    done = [job.name for job in study.jobs if job.state == State.DONE]
    assert done == ["synthetic/unet/0", "synthetic/unet/0/on-drive"]


def test_tables_alone_run_nothing_and_need_no_run(args, tmp_path, shell):
    args.tables_only = True
    study = plan_compare(args)
    run_study(args, study, "", shell())
    assert {job.state for job in study.jobs} == {State.TO_DO}
    assert "4 to do" in (tmp_path / "compare" / "summary.md").read_text()


def test_nothing_is_started_where_a_run_has_other_settings(args, shell):
    run_study(args, plan_compare(args), "", shell())
    args.max_steps, args.seeds = 3, [0, 1, 2]
    study = plan_compare(args)
    with pytest.raises(ValueError, match="synthetic/topolora/0: max_steps was 2500, is 3"):
        run_study(args, study, "", shell())
    assert sum(job.state == State.TO_DO for job in study.jobs) == 2


def test_runs_listed_twice_and_patterns_without_a_run_are_refused(args, shell):
    args.only = "unet"
    with pytest.raises(ValueError, match="only='unet' is in no name of synthetic/topolora/0"):
        run_study(args, plan_compare(args), "", shell())
    args.seeds = [0, 0]
    with pytest.raises(ValueError, match="listed twice: synthetic/topolora/0, "):
        run_study(args, plan_compare(args), "", shell())


def test_a_study_trains_a_baseline_and_an_adapter_once_and_compares_them(crosses, tmp_path, monkeypatch):
    """The baseline in a process of its own, as the command starts it; the adapter in this one, to save its imports."""
    output = tmp_path / "compare"
    words = f"--datasets crosses --data_dirs crosses={crosses} --methods topolora unet --base tiny-random --seeds 0"
    words += f" --max_steps 2 --num_threads 1 --output_dir {output} --set tile_size=48 image_size=64 batch_size=1"
    words += " num_workers=0 mixed_precision=no"

    def study(*flags: str) -> str:
        monkeypatch.setattr(sys, "argv", ["recipes/studies/compare.py", *words.split(), *flags])
        runpy.run_path(compare.__file__, run_name="__main__")
        return (output / "summary.md").read_text()

    text = study("--only", "unet")
    run = output / "crosses" / "unet" / "0"
    assert (run / "network" / "model.safetensors").exists(), (run / "log.txt").read_text()
    metrics = (run / "metrics.json").read_bytes()
    resources = json.loads((run / "resources.json").read_text())
    assert resources["seconds_per_step"] > 0 and resources["peak_memory_bytes"] > 1e8
    assert f"| crosses | unet | {json.loads(metrics)['dice']:.3f} |" in text and "1 to do" in text
    assert "time per step" in text and "recipes/studies/compare.py --datasets crosses" in text
    assert resources["machine"] in text

    adapter = output / "crosses" / "topolora" / "0"
    (job,) = [job for job in plan_compare(_parsed(words)).jobs if job.directory == adapter]
    adapter.mkdir(parents=True)
    write_json(adapter / "job.json", asdict(job.arguments))
    worker.run_worker(job.command, adapter / "job.json")
    text = study()
    assert (adapter / "adapter" / "adapter_model.safetensors").exists()
    assert "2 done" in text and (run / "metrics.json").read_bytes() == metrics


def _parsed(words: str) -> CompareArguments:
    return SettingsParser(CompareArguments).parse_args_into_dataclasses(words.split())[0]
