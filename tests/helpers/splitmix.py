"""SplitMix64 in Python's own whole numbers, which never overflow: the reference for draws."""

BITS = 2**64


def splitmix64(number: int) -> int:
    """`next` of Vigna's splitmix64.c, the generator's state being `(number - 1) × golden ratio`."""
    z = number * 0x9E3779B97F4A7C15 % BITS
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % BITS
    z = (z ^ z >> 27) * 0x94D049BB133111EB % BITS
    return z ^ z >> 31
