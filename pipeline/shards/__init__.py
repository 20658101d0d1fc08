"""Recordings to tars to clips: manifest, one decoder, one list of refusals.

Imports `foundation`.
"""
