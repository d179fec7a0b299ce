"""Score an adapter on a data set.

python recipes/score.py --adapter runs/drive/adapter --dataset drive --data_dir path/to/DRIVE
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("score")
