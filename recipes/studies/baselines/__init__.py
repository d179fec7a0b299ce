"""Networks trained from scratch for one task, with the same data, loss, loop and evaluation as ours."""
