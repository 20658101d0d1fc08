"""The cache as training reads it: tokens, vectors, masks, batches;
imports `foundation`, `cache`, `models`.
"""
