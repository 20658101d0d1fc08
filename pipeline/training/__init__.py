"""The general half of a run: step loop, checkpoints, processes, log.

Imports `foundation`, `models`.
"""
