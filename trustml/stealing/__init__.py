"""Model-stealing inverters, one file each."""
