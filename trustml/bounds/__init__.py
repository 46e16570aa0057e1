"""Guaranteed bounds on what a classifier can answer within a threat."""
