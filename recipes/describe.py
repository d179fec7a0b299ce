"""Describe a data set and draw some of it: what was found, how wide its structures are, what looks wrong.

python recipes/describe.py --dataset drive --data_dir path/to/DRIVE
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("describe")
