"""Serve a page on which adapters are tried: drop an image, pick an adapter, move the threshold, download.

    python recipes/demo.py --adapters runs/drive/adapter someone/polyps

It needs the extra `demo`, and listens on this machine alone unless --host says otherwise.
"""

from topolora_hf.cli import main

if __name__ == "__main__":
    main("demo")
