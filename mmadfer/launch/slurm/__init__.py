"""SLURM: its commands, and the array of folds with what waits for it."""
