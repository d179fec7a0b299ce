"""Convert networks and adapters. The source says what is read, the name of the output what is written.

python recipes/convert.py --source sam_vit_b_01ec64.pth --output bases/sam-vit-base   # Meta's file: a base
python recipes/convert.py --source epoch=49.ckpt --output adapters/drive              # the authors' code: an adapter
python recipes/convert.py --source runs/drive/adapter --output vessels                # an adapter, merged: a network
python recipes/convert.py --source runs/drive/adapter --output vessels.onnx           # the same for onnxruntime
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("convert")
