"""The sweeps behind ``knn``: each finds a few candidates for every query, and bounds all other rows."""
