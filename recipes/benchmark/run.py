"""Runs the benchmark."""

import sys

from transformers import HfArgumentParser

from benchmark.arguments import BenchmarkArguments
from benchmark.gradients import compare_gradients
from benchmark.jobs import alternate, benchmark_groups, benchmark_rows
from benchmark.measure import machine_rates, measure_in_fresh_process, run_in_fresh_process
from benchmark.report import (
    Results,
    format_bytes,
    format_seconds,
    write_report,
)


def run_benchmark(args: BenchmarkArguments) -> Results:
    """Measures every row, one process after another, and writes the report.

    Raises:
        ValueError: when a row's pattern is no row's.
    """
    rows = alternate(benchmark_rows(args))
    groups = [group for group in benchmark_groups(args) if any(row.group == group.name for row in rows)]
    results = Results(args, groups, rows)
    before = machine_rates(args.device, args.threads, args.dtype)
    for row in rows * args.rounds:
        measured = measure_in_fresh_process(row.build, args.repeats, args.device, args.threads)
        before_it = results.measurements.get(row.name)
        results.measurements[row.name] = before_it.join(measured) if before_it else measured
        outcome = measured.error or f"{format_seconds(measured.median)}, {format_bytes(measured.peak_bytes)}"
        print(f"{row.name}: {outcome}", flush=True)
    after = machine_rates(args.device, args.threads, args.dtype)
    results.rates = {name: max(before[name], after[name]) for name in before}
    write_report(results, args.output_dir)
    if args.gradients and "float32" in args.dtype and any(group.name == "step" for group in groups):
        arguments = (args.shape, args.batch_size, args.device, args.threads)
        results.gradients = run_in_fresh_process(compare_gradients, *arguments)
        write_report(results, args.output_dir)
    print(f"benchmark.json, benchmark.md and benchmark.png in {args.output_dir}")
    return results


def benchmark_main() -> None:
    """`recipes/benchmark.py`: the settings are flags; a row that failed makes the command fail, after the report."""
    try:
        (args,) = HfArgumentParser(BenchmarkArguments).parse_args_into_dataclasses()
        results = run_benchmark(args)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    failed = [name for name, measured in results.measurements.items() if measured.error]
    if failed:
        sys.exit(f"error: not measured: {', '.join(failed)}")
