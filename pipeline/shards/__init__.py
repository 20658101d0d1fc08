"""From recordings to tars to clips, with one decoder and one list of reasons for refusals;
imports `foundation`.
"""
