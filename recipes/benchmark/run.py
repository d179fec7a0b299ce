"""Run the benchmark."""

from benchmark.arguments import BenchmarkArguments
from benchmark.gradients import compare_gradients
from benchmark.jobs import alternate, benchmark_groups, benchmark_rows
from benchmark.measure import machine_rates, measure_in_fresh_process, run_in_fresh_process
from benchmark.report import Results, write_report
from studies.engine.machine import format_bytes, format_seconds
from topolora_hf.cli import fail, run_command


def run_benchmark(args: BenchmarkArguments) -> Results:
    """Measure every row, one process after another, and write the report.

    Raises:
        ValueError: a pattern names no row.
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
    """Run the command: the settings are flags; if a row failed, fail after the report."""
    run_command(BenchmarkArguments, _run)


def _run(args: BenchmarkArguments) -> None:
    failed = [name for name, measured in run_benchmark(args).measurements.items() if measured.error]
    if failed:
        fail(f"error: not measured: {', '.join(failed)}", 1)
