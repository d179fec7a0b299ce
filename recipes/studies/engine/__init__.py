"""The engine of the studies: lists of runs, done once, and the tables and pictures that they give."""
