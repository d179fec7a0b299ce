"""Networks trained from scratch for one task, to compare with: the same data, loss, loop and evaluation as ours."""
