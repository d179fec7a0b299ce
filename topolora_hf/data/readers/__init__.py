"""One reader a layout: which files make one row."""
