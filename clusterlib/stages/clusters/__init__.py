"""Stages 3 and 4: the fit on the sample, and the cluster of every row."""
