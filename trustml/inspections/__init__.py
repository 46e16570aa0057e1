"""Searches for a backdoor in a given model."""
