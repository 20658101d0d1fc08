"""Encoders on packed sequences: loading, students, compiling. Imports `foundation`."""
