"""Pretrain the embedded base from nothing, on synthetic images alone; runs/pretrain/network is the new base.

    accelerate launch recipes/studies/pretrain_tiny.py

All settings of recipes/train.py apply (--help lists them).
"""

from pretraining import PretrainArguments, pretrain
from topolora_hf.cli import run_command

if __name__ == "__main__":
    run_command(PretrainArguments, pretrain)
