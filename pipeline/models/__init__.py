"""Encoders on packed sequences: loading them, students, compiling; imports `foundation`."""
