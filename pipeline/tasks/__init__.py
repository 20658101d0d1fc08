"""What encoders are asked: CMU-MOSEI, planted affect, any table, minimal pairs; and metrics;
imports `foundation`, `shards`, `cache`, `models`.
"""
