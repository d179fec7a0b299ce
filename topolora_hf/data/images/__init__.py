"""From a file of any format to an RGB image or a binary mask."""
