"""A page to try adapters on images of one's own: `recipes/demo.py`."""

from .command import DemoArguments, demo_main
from .page import build_page, launch_options
from .session import Look
from .shelf import AdapterShelf

__all__ = ["AdapterShelf", "DemoArguments", "Look", "build_page", "demo_main", "launch_options"]
