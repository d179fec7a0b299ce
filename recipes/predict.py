"""Segments images of any size with an adapter.

python recipes/predict.py --adapter runs/drive/adapter --images photographs/ --output_dir masks
"""

from topolora_hf.cli import predict_main

if __name__ == "__main__":
    predict_main()
