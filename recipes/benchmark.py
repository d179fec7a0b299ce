"""Measure time and memory beside transformers, MONAI and the authors' form of the training step.

python recipes/benchmark.py --quick

Settings are flags (--help lists them), rows are chosen by name: --rows 'step/*' 'skeleton/*'
"""

from benchmark.run import benchmark_main

if __name__ == "__main__":
    benchmark_main()
