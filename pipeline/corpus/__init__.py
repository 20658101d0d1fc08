"""The cache as training reads it: tokens, vectors, masks, batches.

Imports `foundation`, `cache`, `models`.
"""
