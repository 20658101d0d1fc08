"""CTAL: a text stack, and an audio stack that reads it."""
