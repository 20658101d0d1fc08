"""Stage one: the frozen speech encoder over the shards.

Imports `foundation`, `shards`, `cache`, `cluster`.
"""
