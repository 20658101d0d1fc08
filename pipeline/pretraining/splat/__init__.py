"""SPLAT: a speech module that learns from masked audio, then from a text encoder's vectors."""
