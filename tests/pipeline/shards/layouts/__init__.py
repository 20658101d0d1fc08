"""Tests of the layouts of corpora."""
