"""From files, or a seed, to training tiles: readers, checks, augmentation, synthetic images."""
