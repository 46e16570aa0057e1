"""Test-time attacks, one file each."""
