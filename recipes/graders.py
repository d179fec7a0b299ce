"""Scores the second person's masks of a data set against the first's.

    python recipes/graders.py --dataset drive --data_dir path/to/DRIVE

The same evaluation as an adapter's, so that the two can be compared.
"""

from topolora_hf.cli import graders_main

if __name__ == "__main__":
    graders_main()
