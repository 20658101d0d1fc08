"""Tests of the readers of files of times."""
