"""Trains on each data set, scores on all, and writes the table.

    python recipes/cross_dataset.py --data_root path/to/data

Runs that are done are not done again, interrupted ones go on; --dry_run lists them, --set NAME=VALUE changes settings.
"""

from topolora_hf.experiments import cross_dataset_main

if __name__ == "__main__":
    cross_dataset_main()
