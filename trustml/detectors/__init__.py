"""Uncertainty, failure and out-of-distribution scores, one file each."""
