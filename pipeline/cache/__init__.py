"""What stage one leaves and stage two reads: rows, receipts, statistics.

Imports `foundation`, `shards`.
"""
