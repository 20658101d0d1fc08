"""Shares of a job array, and Slurm. Imports `foundation`, `cache`."""
