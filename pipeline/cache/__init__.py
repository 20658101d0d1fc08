"""What stage one leaves and stage two reads: rows, receipts, statistics;
imports `foundation`, `shards`.
"""
