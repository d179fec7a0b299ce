"""One reader a layout: which files make one row.

A reader takes the data set's folder and `ReadOptions`. It returns the splits, or all rows under `UNSPLIT`, and one
sentence for each way in which the set is incomplete. It raises `DataError` if the layout is another one, or if the set
is incomplete and `skip_bad` is False.
"""
