"""Pretrains the embedded base from nothing, on synthetic images alone; runs/pretrain/network is the new base.

    accelerate launch recipes/pretrain_tiny.py

All settings of recipes/train.py apply (--help lists them).
"""

from topolora_hf.cli import pretrain_main

if __name__ == "__main__":
    pretrain_main()
