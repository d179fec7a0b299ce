"""Time and memory of this package beside what it replaces: `recipes/benchmark.py`."""

from .arguments import BenchmarkArguments
from .run import benchmark_main, run_benchmark

__all__ = ["BenchmarkArguments", "benchmark_main", "run_benchmark"]
