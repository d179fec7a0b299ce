"""Time and memory of this package beside what it replaces: `recipes/benchmark.py`."""
