"""The general half of a run: step loop, checkpoints, processes, log, record;
imports `foundation`, `models`.
"""
