"""Layouts of corpora, one small file per family.

The next layout is a `Layout` with a function that knows it and one that reads it, and its place in
`registry.LAYOUTS`.
"""
