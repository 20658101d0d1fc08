"""Hostile and broken input, bounds, and odd numbers, through the commands' own code."""
