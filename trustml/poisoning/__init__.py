"""Training-time attacks, one file each."""
