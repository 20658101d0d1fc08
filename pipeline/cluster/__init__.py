"""Shares of a job array, and Slurm; imports `foundation`, `cache`."""
