"""Stage one: a frozen speech encoder over the shards;
imports `foundation`, `shards`, `cache`, `cluster`, `models`.
"""
