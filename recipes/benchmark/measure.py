"""Time and peak memory of a piece of work in a process of its own, and the rates that the machine allows."""

import ctypes
import multiprocessing
import os
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from studies.engine.machine import largest_resident_bytes

# Short work is repeated for this long, or this often, whichever comes first.
_LEAST_SECONDS = 0.5
_MOST_REPEATS = 50
_RECIPES = str(Path(__file__).parents[1])


@dataclass
class Workload:
    """What is repeated.

    Attributes:
        run: the work; takes what `draw` returns.
        draw: makes fresh input, outside the measured time.
        items: how many images, tiles or maps one `run` deals with; times are per item.
        flops: of the matrix products and convolutions that one `run` needs by definition, or None.
        least_bytes: that one `run` must read and write at the very least, or None.
    """

    run: Callable[..., object]
    draw: Callable[[], tuple] = tuple
    items: int = 1
    flops: int | None = None
    least_bytes: int | None = None


@dataclass
class Measurement:
    """What one row measured.

    Attributes:
        seconds: of each repeat, per item.
        peak_bytes: the process's largest resident memory while it repeats (on CUDA: memory allocated on the device),
            with everything that is loaded, without what only the preparation needed.
        extra_bytes: that, less what is in use between two repeats.
        flops, least_bytes: as in `Workload`, per item.
        error: why there is no measurement, else None.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    extra_bytes: int | None = None
    flops: float | None = None
    least_bytes: float | None = None
    error: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def join(self, other: "Measurement") -> "Measurement":
        """This and another measurement of the same row: all repeats, the larger memory; the first error, if any."""
        if self.error or other.error:
            return self if self.error else other
        peak, extra = max(self.peak_bytes, other.peak_bytes), max(self.extra_bytes, other.extra_bytes)
        return replace(self, seconds=self.seconds + other.seconds, peak_bytes=peak, extra_bytes=extra)


def measure_in_fresh_process(build: Callable[[], Workload], repeats: int, device: str, threads: int) -> Measurement:
    """Build the work and measure it in a process that does nothing else; a failure is a `Measurement`, too.

    Args:
        build: makes the `Workload`; pickled.
        repeats: at least so many after one warm-up; short work is repeated until half a second has passed.
        device: `"cpu"` or `"cuda"`.
        threads: of the process.
    """
    try:
        return run_in_fresh_process(_measure, build, repeats, device, threads)
    except BrokenProcessPool:
        return Measurement(error="the process ended abruptly, most often for want of memory")
    except Exception as error:  # whatever a row raises, the other rows are worth having
        return Measurement(error=f"{type(error).__name__}: {error}".splitlines()[0])


def run_in_fresh_process(function: Callable, *arguments) -> object:
    """Run `function(*arguments)` in a process forked from one that has only imported this package.

    So the process shares no memory, thread or cache with what ran before it, and does not wait for imports.
    """
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if _RECIPES not in paths:  # the process that is forked from has no other way to find `benchmark`
        os.environ["PYTHONPATH"] = os.pathsep.join([_RECIPES, *filter(None, paths)])
    can_fork = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    context.set_forkserver_preload(["benchmark.jobs"])
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def machine_rates(device: str, threads: int, dtypes: list[str]) -> dict[str, float]:
    """Measure what this machine reaches: FLOP/s of square matrix products by dtype, bytes/s of a copy.

    In a fresh process; the best of five.
    """
    return run_in_fresh_process(_machine_rates, device, threads, dtypes)


def count_flops(run: Callable[[], object]) -> int:
    """Count the FLOPs of the matrix products and convolutions in `run`, also backward; meta tensors will do."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _measure(build: Callable[[], Workload], repeats: int, device: str, threads: int) -> Measurement:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # notices of what libraries will change would bury the results
    work = build()
    work.run(*work.draw())
    memory = _CudaMemory() if device == "cuda" else _ResidentMemory()
    seconds = []
    while len(seconds) < repeats or (sum(seconds) < _LEAST_SECONDS and len(seconds) < _MOST_REPEATS):
        inputs = work.draw()
        seconds.append(_time(work.run, inputs, device))
    peak, extra = memory.read()
    return Measurement(
        [second / work.items for second in seconds],
        peak,
        extra,
        work.flops and work.flops / work.items,
        work.least_bytes and work.least_bytes / work.items,
    )


def _time(run: Callable, inputs: tuple, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run(*inputs)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class _CudaMemory:
    def __init__(self):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def read(self) -> tuple[int, int]:
        """Peak since the start, and how much of it came on top of what was there."""
        peak = torch.cuda.max_memory_allocated()
        return peak, peak - self.before


class _ResidentMemory:
    """Linux keeps the peak in VmHWM and lets a process set it back; elsewhere it is that of the whole process."""

    def __init__(self):
        self.on_linux = sys.platform == "linux"
        if self.on_linux:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed must not pass for memory in use
            Path("/proc/self/clear_refs").write_text("5")
            self.before = _status_bytes("VmRSS")
        else:
            self.before = largest_resident_bytes()

    def read(self) -> tuple[int, int]:
        """Peak since the start, and how much of it came on top of what was there."""
        peak = _status_bytes("VmHWM") if self.on_linux else largest_resident_bytes()
        return peak, peak - self.before


def _status_bytes(name: str) -> int:
    kilobytes = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(kilobytes[1])


def _machine_rates(device: str, threads: int, dtypes: list[str]) -> dict[str, float]:
    torch.set_num_threads(threads)
    side, megabytes = (8192, 1024) if device == "cuda" else (2048, 256)
    rates = {}
    for dtype in dtypes:
        a, b = (torch.randn(side, side, device=device).to(getattr(torch, dtype)) for _ in range(2))
        rates[dtype] = 2 * side**3 / _best_time(lambda a=a, b=b: a @ b, device)
    source = torch.ones(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates["copy"] = 2 * source.nbytes / _best_time(lambda: target.copy_(source), device)
    return rates


def _best_time(run: Callable, device: str) -> float:
    run()
    return min(_time(run, (), device) for _ in range(5))
