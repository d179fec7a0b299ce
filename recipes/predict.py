"""Segment images of any size with an adapter.

python recipes/predict.py --adapter runs/drive/adapter --images photographs/ --output_dir masks
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("predict")
