"""Words → plan; nothing else."""
