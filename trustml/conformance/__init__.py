"""Tests that every plugin must pass, built-in or guest: `pytest --pyargs trustml.conformance`."""
