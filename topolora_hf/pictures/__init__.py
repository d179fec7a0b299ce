"""Everything that draws; matplotlib is imported here alone."""
