"""What every room stands on: errors, settings, whole-or-absent files, storage, progress;
imports no room.
"""
