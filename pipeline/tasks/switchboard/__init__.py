"""Switchboard's dialogue acts as people have them, as rows with times and channels."""
