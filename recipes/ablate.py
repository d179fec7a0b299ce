"""Varies LoRA's rank, the weight of clDice and the trained parts one at a time, and writes the table.

    python recipes/ablate.py --study rank --data_root path/to/data

Runs that are done are not done again, interrupted ones go on; --dry_run lists them, --set NAME=VALUE changes settings.
"""

from topolora_hf.experiments import ablate_main

if __name__ == "__main__":
    ablate_main()
