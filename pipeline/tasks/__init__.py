"""What encoders are asked: CMU-MOSEI, planted affect, any table, minimal pairs, hearing; metrics;
imports `foundation`, `shards`, `cache`, `corpus`, `models`.
"""
