"""The page as a Space: its variable ADAPTERS holds the Hub ids that can be picked beside `tiny`, spaces between."""

import os

from topolora_hf.demo import AdapterShelf, build_page, launch_options

page = build_page(AdapterShelf([*os.environ.get("ADAPTERS", "").split(), "tiny"]))

if __name__ == "__main__":
    page.launch(**launch_options())
