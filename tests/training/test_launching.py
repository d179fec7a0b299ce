"""Settings files for `accelerate launch`, and runs of which one process fails."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from tests.training.test_several_processes import PROJECT, launch_command
from topolora_hf.training.checkpoints import read_checkpoint
from topolora_hf.training.setup import build_accelerator

FILES = sorted((PROJECT / "recipes" / "configs" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_understands_every_settings_file(file):
    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig)
    expected = {"one_gpu": ("NO", 1, 1), "several_gpus": ("MULTI_GPU", 2, 1), "several_nodes": ("MULTI_GPU", 8, 2)}
    expected |= {"cpu": ("MULTI_GPU", 2, 1), "fsdp": ("FSDP", 2, 1)}
    assert (config.distributed_type.value, config.num_processes, config.num_machines) == expected[file.stem]
    assert config.use_cpu == (file.stem == "cpu")


def test_fsdp_is_refused_with_the_way_out(make_arguments, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as `accelerate launch` does for fsdp.yaml
    with pytest.raises(ValueError, match="FSDP is not supported: .*several_gpus.yaml"):
        build_accelerator(make_arguments())


@pytest.fixture
def two_processes(tmp_path, stock_sam):
    """Starts `recipes/train.py` on two processes; those that are left are killed at the end."""
    command = [str(PROJECT / "recipes" / "train.py"), "--dataset", "synthetic", "--base", stock_sam("small")]
    command += ["--image_size", "64", "--tile_size", "48", "--batch_size", "1", "--num_workers", "0"]
    command += ["--log_every", "1", "--evaluate_every", "10000"]
    command += ["--max_steps", "100000", "--output_dir", str(tmp_path / "run")]
    started = []

    def start() -> tuple[subprocess.Popen, list[int]]:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        launched = subprocess.Popen(
            [*launch_command(2), *command], cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True
        )
        started.append(launched)
        until, first = time.monotonic() + 200, last_step(tmp_path / "run")
        while last_step(tmp_path / "run") <= first and launched.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        listed = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        return launched, [int(process) for process in listed]

    yield start
    for launched in started:
        launched.kill()


def last_step(run: Path) -> int:
    steps = [int(path.name) for path in (run / "checkpoints").glob("[0-9]*")]
    return max(steps, default=0)


@pytest.mark.slow
def test_one_of_two_processes_killed_ends_both_and_a_signal_to_one_stops_both(two_processes, tmp_path):
    run = tmp_path / "run"
    launched, processes = two_processes()
    assert len(processes) == 2
    os.kill(processes[1], signal.SIGKILL)
    assert launched.wait(timeout=120) != 0
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    before = last_step(run)
    assert before >= 1
    launched, processes = two_processes()  # the same command
    os.kill(processes[1], signal.SIGTERM)
    _, said = launched.communicate(timeout=120)
    step = read_checkpoint(run / "checkpoints").note["step"]
    assert step > before and said.count(f"stopped after step {step} of 100000, with a checkpoint") == 2
