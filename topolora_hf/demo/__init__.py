"""A page to try adapters on images of one's own: `recipes/demo.py`."""
