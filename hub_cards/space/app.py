"""The page as a Space: its variable ADAPTERS holds the Hub ids that can be picked beside `tiny`, spaces between."""

import os

from topolora_hf.demo.page import build_page, launch_options
from topolora_hf.demo.shelf import AdapterShelf

page = build_page(AdapterShelf([*os.environ.get("ADAPTERS", "").split(), "tiny"]))

if __name__ == "__main__":
    page.launch(**launch_options())
