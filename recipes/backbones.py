"""Trains the full network on bases of several sizes, and writes the table of accuracy, time, memory and file size.

    python recipes/backbones.py --data_root path/to/data --bases tiny facebook/sam-vit-base

Runs that are done are not done again, interrupted ones go on; --dry_run lists them, --set NAME=VALUE changes settings.
"""

from topolora_hf.experiments import backbones_main

if __name__ == "__main__":
    backbones_main()
