"""Rasters on the map, read and written by rows. rasterio (the extra `geo`) is imported where it is used."""
