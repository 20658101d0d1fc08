"""Recordings to tars to clips, by one decoder and with one list of refusals;
imports `foundation`.
"""
