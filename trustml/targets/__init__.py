"""Deployed classifiers behind one face: one file for each kind of thing that can be named."""
