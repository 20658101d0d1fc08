"""Training, validation and test: their names, other people's names for them, and a made split."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

SPLITS = ("train", "valid", "test")

SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    **dict.fromkeys(("val", "dev", "validation"), "valid"),
    **dict.fromkeys(("", "none"), ""),
}
"""The split that each name in a file stands for; empty for none."""

MADE_SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
"""Share of the rows that each split gets where this project makes the split itself."""


def split_in_name(name: str) -> str:
    """The split that a file's name speaks of, such as `dev_sent_emo`; empty if it names none."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if SPLIT_NAMES.get(word)), "")


def made_split(groups: Sequence[str], seed: int) -> list[str]:
    """Deal rows out to `MADE_SHARES`, whole groups at a time.

    Groups are ordered by a hash of seed and name and dealt out in that order until each split has
    its share of the rows, so the order of rows does not matter.

    Args:
        groups: the group of each row, such as its recording or speaker.
        seed: another seed gives another split of the same groups.

    Returns:
        The split of each row.
    """
    size = Counter(groups)
    order = sorted(size, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    split_of: dict[str, str] = {}
    dealt = 0
    for group in order:
        share = 0.0
        for split, part in MADE_SHARES.items():
            share += part
            if dealt < share * len(groups) or split == "test":
                split_of[group] = split
                break
        dealt += size[group]
    return [split_of[group] for group in groups]
