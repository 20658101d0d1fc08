"""What encoders are asked: CMU-MOSEI, planted affect, any table, minimal pairs; metrics.

Imports `foundation`, `shards`, `cache`, `models`.
"""
