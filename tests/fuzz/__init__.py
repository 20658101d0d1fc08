"""Fuzzing of everything that reads what others made.

    python -m tests.fuzz tar --inputs 100000

`seeds` makes the first inputs, `targets` says what is done with one, `__main__` drives them by
coverage (atheris, in the extra `fuzz`), `test_fuzz` by hypothesis.
"""
