"""Trains on 1, 2, 5, 10 and 20 images, and writes the table and the curve.

    python recipes/few_labels.py --data_root path/to/data --detail_base path/to/network

Runs that are done are not done again, interrupted ones go on; --dry_run lists them, --set NAME=VALUE changes settings.
"""

from topolora_hf.experiments import few_labels_main

if __name__ == "__main__":
    few_labels_main()
