"""Measures of a change that are no norms: how far it goes, and the nearest change allowed."""
