"""Memory stays flat, however long a run is.

SOAK_SECONDS=3600 python -m pytest tests/training/test_soak.py -m slow -s
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.killed import children_of
from topolora_hf.training.run import train

PROJECT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("SOAK_SECONDS", 3600))
EVERY = 2.0
MEGABYTE = 2**20


def memory_of(process: int) -> int:
    """Bytes that a process and those below it hold, what they share counted once; without libraries, of which each
    process on the machine has a share that grows when another ends."""
    total = 0
    for task in (process, *children_of(process)):
        try:
            rollup = Path(f"/proc/{task}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):  # ended since
            continue
        total += (
            sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
            * 1024
        )
    return total


def _last_step(run: Path) -> int:
    return max((int(path.name) for path in run.glob("checkpoints/[0-9]*")), default=0)


@pytest.mark.slow
def test_an_hour_of_training_leaves_memory_flat(tmp_path):
    """Training, validation, checkpoints and history; the first third of the time fills caches and is left out."""
    command = [sys.executable, str(PROJECT / "recipes" / "train.py"), "--dataset", "synthetic", "--base", "tiny"]
    command += ["--tile_size", "64", "--image_size", "64", "--batch_size", "2", "--max_steps", "10000000"]
    command += ["--evaluate_every", "200", "--num_workers", "1", "--num_threads", "1"]
    command += ["--log_every", "100", "--output_dir", str(tmp_path / "run")]
    times, held = [], []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            started = time.monotonic()
            while time.monotonic() - started < SECONDS:
                time.sleep(EVERY)
                assert process.poll() is None
                times.append((time.monotonic() - started) / 3600)
                held.append(memory_of(process.pid) / MEGABYTE)
                if len(held) % 15 == 0:
                    step = _last_step(tmp_path / "run")
                    print(f"{times[-1] * 60:.1f} minutes, step {step}: {held[-1]:.0f} MB", flush=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=300) == 128 + signal.SIGTERM
        finally:
            process.kill()
    later = len(times) // 3
    slope, _ = np.polyfit(times[later:], held[later:], 1)
    steps = _last_step(tmp_path / "run")
    print(
        f"\n{times[-1] * 60:.1f} minutes, {steps} steps: {slope:+.1f} MB an hour after the first third; "
        f"{held[later]:.0f} MB there, {held[-1]:.0f} MB at the end, {max(held):.0f} MB at most"
    )
    # As much as would be missed in a run of a day: 10 % of what the run holds.
    assert slope < 0.1 * held[later] / 24 * max(1.0, 1 / times[-1]), "memory grows"


def test_memory_is_flat_from_step_to_step(make_arguments, splits, no_pictures):
    held = {}

    def watch(trainer) -> None:
        held[trainer.step] = memory_of(os.getpid())
        if trainer.step % 5 == 0:
            trainer.write_checkpoint()

    train(make_arguments(max_steps=41, evaluate_every=10, log_every=2), splits, on_step=watch)
    assert held[40] - held[20] < 10 * MEGABYTE
