"""From images to masks and their files."""
