"""Measure the centrelines of masks: lengths, widths, branch points, loops.

python recipes/measure.py --masks masks/ --output_dir measures --pixel_size 0.0065 --unit mm
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("measure")
