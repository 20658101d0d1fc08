"""Stage one: the frozen speech encoder over the shards;
imports `foundation`, `shards`, `cache`, `cluster`.
"""
