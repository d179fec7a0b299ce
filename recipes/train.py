"""Train an adapter, score it and fill a run directory.

    accelerate launch recipes/train.py --dataset drive --data_dir path/to/DRIVE --base tiny

Every setting is a flag (--help lists them) or a line of one YAML or JSON file: recipes/train.py settings.yaml
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("train")
