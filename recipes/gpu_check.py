"""Check a GPU in under ten minutes: the values of the CPU, training in each precision, tables of time.

    python recipes/gpu_check.py
    python recipes/gpu_check.py --device cpu --quick    # seconds: whether the script itself runs

It writes gpu_check.md to the output directory, and ends with status 1 if a check fails.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, GradientState

from benchmark.networks import NetworkShape
from benchmark.workloads import build_step, draw_target, prediction, step_flops
from studies.engine.machine import describe_machine
from topolora_hf import TrainArguments, train
from topolora_hf.cli import fail, run_command
from topolora_hf.files import write_file
from topolora_hf.network.attention import blocked_attention, folded_attention
from topolora_hf.settings import check_limits, option
from topolora_hf.synthetic import draw_synthetic

# Largest difference from float32 on the CPU, relative to the norm: of logits and loss, of all gradients together.
LIMITS = {"float32": (1e-4, 1e-3), "tf32": (2e-2, 1e-1), "bfloat16": (5e-2, 3e-1), "float16": (2e-2, 1e-1)}


@dataclass
class CheckArguments:
    """Check that a GPU computes, trains and predicts as the CPU does, and measure how fast."""

    device: str = option("cuda", "what is checked", choices=("cuda", "cpu"))
    quick: bool = option(False, "small shapes and few repeats: a look at the script itself")
    output_dir: str = option("runs/gpu_check", "where gpu_check.md and the runs are written")

    def __post_init__(self):
        check_limits(self)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: PyTorch finds no such GPU here")

    @property
    def precisions(self) -> list[str]:
        return list(LIMITS) if self.device == "cuda" else ["float32", "bfloat16"]


@dataclass
class Report:
    """What is found, as Markdown; `failed` names the checks that failed."""

    lines: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def table(self, title: str, *columns: str) -> None:
        self._say(f"\n## {title}\n", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns))

    def row(self, *cells: object) -> None:
        self._say("| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")

    def check(self, name: str, value: float, limit: float) -> None:
        passed = value <= limit  # not a number fails
        self.row(name, value, limit, "ok" if passed else "FAILED")
        self.failed += [] if passed else [name]

    def _say(self, *lines: str) -> None:
        self.lines += lines
        print(*lines, sep="\n", flush=True)


def check_values(args: CheckArguments, report: Report) -> None:
    """Attention, logits, loss and gradients against the CPU's."""
    report.table("Values, against the CPU", "what", "relative difference", "limit", "")
    for side, window in ((5, 5), (8, 5)) if args.quick else ((64, 64), (64, 14)):
        ours = _attention(folded_attention, side, window, torch.float32, args.device)
        exact = _attention(blocked_attention, side, window, torch.float64, "cpu")
        report.check(f"attention, {side} x {side}, windows of {window}", _difference(ours, exact), 1e-4)
    shape = NetworkShape("small") if args.quick else NetworkShape("vit_b", 512, layers=4)
    expected = _step(shape, "float32", "cpu")
    for precision in args.precisions:
        found = _step(shape, precision, args.device)
        for name, limit in zip(expected, (LIMITS[precision][0], *LIMITS[precision]), strict=True):
            report.check(f"{name}, {precision}", _difference(found[name], expected[name]), limit)


def _attention(attend: Callable, side: int, window: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    """The values and every gradient, of seeded input."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, side, side, 3, 4, 64), (3, 4, 64), (window, window, 64), (window, window, 64))
    inputs = [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]
    out = attend(*inputs)
    return [out, *torch.autograd.grad(out.square().mean(), inputs, materialize_grads=True)]


def _step(shape: NetworkShape, precision: str, device: str) -> dict[str, list[torch.Tensor]]:
    network, loss = build_step(shape, "ours")
    network.to(device)
    torch.manual_seed(0)
    size = shape.config().image_size
    images, target = torch.randn(2, 3, size, size), draw_target(2, size, "cpu")
    with computing_in(precision, device):
        value = loss(images.to(device), target.to(device))
        with torch.no_grad():
            logits = network(pixel_values=images.to(device)).logits
    (value * 2**10).backward()  # as a loss scaler does for fp16
    gradients = [one.grad for one in network.parameters() if one.grad is not None]
    return {"logits": [logits], "loss": [value], "gradients": gradients}


def computing_in(precision: str, device: str) -> torch.autocast:
    """Autocast; or float32, without or with TF32, which stays for the backward pass."""
    if device == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision != "float32"
    half = precision in ("bfloat16", "float16")
    return torch.autocast(device, getattr(torch, precision) if half else torch.bfloat16, enabled=half)


def _difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    one, other = (torch.cat([each.detach().double().cpu().flatten() for each in side]) for side in (found, expected))
    return ((one - other).norm() / other.norm()).item()


def check_training(args: CheckArguments, report: Report) -> None:
    """Real runs: the loss falls, everything is finite; and how often a step makes the host wait."""
    size, steps = (48, 2) if args.quick else (256, 60)
    rows = [draw_synthetic(number, size=size + 16) for number in range(4)]
    report.table(
        "Training tiny-random on drawn images", "precision", "loss, first and last", "s a step", "waits a step"
    )
    for precision in ("no", "bf16", "fp16") if args.device == "cuda" else ("bf16",):
        AcceleratorState._reset_state(reset_partial_state=True)  # it keeps the precision of a process's first run
        GradientState._reset_state()
        losses, times, waits = [], [], _Waits(args.device)
        settings = {"base": "tiny-random", "mixed_precision": precision, "max_steps": steps, "tile_size": size}
        settings |= (
            {"image_size": 64, "num_workers": 0, "num_threads": 1, "batch_size": 1} if args.quick else {"batch_size": 8}
        )
        run = TrainArguments(
            dataset="drawn", output_dir=f"{args.output_dir}/{precision}", evaluate_every=10**6, log_every=10**6,
            overwrite=True, **settings,
        )  # fmt: skip

        def look(trainer, losses=losses, times=times, waits=waits) -> None:
            losses.append(trainer.losses[0])
            times.append(time.monotonic())
            waits.between(trainer.step, steps // 2, steps - 1)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scores = train(run, {"train": rows[:3], "validation": rows[3:]}, on_step=look)
        first, last = losses[0].item(), torch.stack(losses[-5:]).mean().item()
        report.row(precision, f"{first:.3f}, {last:.3f}", statistics.median(np.diff(times)), waits.count(caught))
        if not (np.isfinite(last) and np.isfinite(scores["auroc"]) and (args.quick or last < first)):
            report.failed.append(f"training in {precision}")


class _Waits:
    """Count what makes the host wait for the GPU in the later steps of a run, which PyTorch warns of on demand."""

    def __init__(self, device: str):
        self.device, self.steps = device, 0

    def between(self, step: int, first: int, last: int) -> None:
        if self.device == "cuda":
            torch.cuda.set_sync_debug_mode("warn" if first <= step < last else "default")
            self.steps += first <= step < last

    def count(self, caught: list[warnings.WarningMessage]) -> str:
        if not self.steps:
            return ""
        places = [f"{Path(each.filename).name}:{each.lineno}" for each in caught if "synchroniz" in str(each.message)]
        return f"{len(places) / self.steps:.2f} {' '.join(sorted(set(places)))}"


def measure(args: CheckArguments, report: Report) -> None:
    """The rate of matrix products, and what training, prediction and attention reach of it."""
    side, repeats = (128, 2) if args.quick else (8192, 10)
    report.table(f"Matrix products of {side} x {side}", "precision", "TFLOP/s")
    rates = {}
    for precision in args.precisions:
        half = precision in ("bfloat16", "float16")
        a, b = torch.randn(2, side, side, device=args.device, dtype=getattr(torch, precision) if half else None)
        with computing_in(precision, args.device):
            rates[precision] = 2 * side**3 / seconds(lambda a=a, b=b: a @ b, args.device, repeats) / 1e12
        report.row(precision, rates[precision])
    shape = NetworkShape("small") if args.quick else NetworkShape("vit_b")
    title = f"Training step of {shape.model}, {shape.config().image_size} pixels, preset paper"
    report.table(title, "precision", "batch", "s", "GiB", "TFLOP/s", "of the products'")
    network, loss = build_step(shape, "ours")
    network.to(args.device)
    for batch in (1,) if args.quick else (1, 4):
        flops = step_flops(shape, batch)
        for precision in args.precisions:
            try:
                took, memory = _timed_step(network, loss, shape, batch, precision, args.device, repeats)
            except torch.OutOfMemoryError:
                report.row(precision, batch, "does not fit", "", "", "")
                continue
            rate = flops / took / 1e12
            report.row(precision, batch, took, memory, rate, f"{rate / rates[precision]:.0%}")
    report.table("Prediction of an image", "precision", "s")
    for precision in ("float32", "bfloat16"):
        work = prediction(shape, "ours", precision, shape.config().image_size, args.device)
        report.row(precision, seconds(lambda work=work: work.run(*work.draw()), args.device, repeats))
    _measure_attention(args, report, repeats)


def _timed_step(network, loss, shape, batch: int, precision: str, device: str, repeats: int) -> tuple[float, float]:
    size = shape.config().image_size
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    target = draw_target(batch, size, device)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with computing_in(precision, device):
            value = loss(images, target)
        value.backward()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = seconds(step, device, repeats)
    return took, torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")


def _measure_attention(args: CheckArguments, report: Report, repeats: int) -> None:
    """Whether a kernel for values of their own width would be faster than values filled up to the queries' width."""
    tokens, wide = (8, 64 + 16) if args.quick else (64, 64 + 128)
    report.table(f"Global attention of {tokens} x {tokens} tokens, 12 heads, forward + backward", "values", "s")
    dtype = torch.bfloat16
    query, key = torch.randn(2, 1, 12, tokens**2, wide, device=args.device, dtype=dtype)
    value = torch.randn(1, 12, tokens**2, 64, device=args.device, dtype=dtype)
    for name, padding in (("filled up to the queries' width", wide - 64), ("of their own width", 0)):
        inputs = [each.detach().requires_grad_() for each in (query, key, F.pad(value, (0, padding)))]

        def both(inputs=inputs) -> None:
            torch.autograd.grad(F.scaled_dot_product_attention(*inputs)[..., :64].sum(), inputs)

        report.row(name, seconds(both, args.device, repeats))


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """The median time of some work, after two times to warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def gpu_check(args: CheckArguments) -> None:
    report = Report(["# GPU check", "", describe_machine(device=args.device)])
    for part in (check_values, check_training, measure):
        try:
            part(args, report)
        except (RuntimeError, ValueError, MemoryError) as error:  # the other parts are worth having
            report.failed.append(f"{part.__name__}: {type(error).__name__}: {error}")
    report.lines += ["", f"Failed: {'; '.join(report.failed) or 'nothing'}", ""]
    path = Path(args.output_dir) / "gpu_check.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, "\n".join(report.lines).encode())
    print(f"\nwrote {path}")
    if report.failed:
        fail(f"error: failed: {'; '.join(report.failed)}", 1)


if __name__ == "__main__":
    run_command(CheckArguments, gpu_check)
