"""Compares methods: every one on every data set with every seed, and writes the table.

    python recipes/compare.py --data_root path/to/data --jobs 2

Runs that are done are not done again, interrupted ones go on; --dry_run lists them, --set NAME=VALUE changes settings.
"""

from topolora_hf.experiments import compare_main

if __name__ == "__main__":
    compare_main()
