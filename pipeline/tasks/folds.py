"""Folds: one part of the data after another is the test, and the rest is trained on."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.foundation.errors import SpeechkdError

Validation: TypeAlias = Literal["none", "next"]


@dataclass(frozen=True)
class Fold:
    """One way to divide the rows.

    Attributes:
        name: the part that is left out.
        splits: `train`, `valid` or `test` of each row; empty for a row that is in no part, which
            is neither trained on nor tested.
    """

    name: str
    splits: tuple[str, ...]


def leave_out(
    parts: Sequence[str],
    *,
    count: int = 0,
    validation: Validation = "none",
    seed: int = 0,
    what: str = "part",
) -> list[Fold]:
    """One fold per part, in which that part is the test.

    Args:
        parts: the part of each row, such as its session or speaker; empty for none.
        count: how many folds to deal the parts to, whole parts at a time and so that the folds
            have about as many rows; 0 for one per part.
        validation: `next` takes the fold after (after the last, the first) for validation, so
            that it is never the test; `none` trains on all that is not the test.
        seed: another seed deals the parts to folds in another way.
        what: what a part is called, for messages.

    Raises:
        SpeechkdError: there are too few parts for that.
    """
    names = sorted(set(parts) - {""}, key=_natural)
    fold_of = {name: name for name in names}
    if count:
        if not 2 <= count <= len(names):
            raise SpeechkdError(
                f"--folds {count}: the rows have {len(names):,} values of {what}; there are 2 "
                "folds at least, and no more folds than values."
            )
        fold_of = _dealt(parts, names, count, seed)
        names = [f"{number} of {count}" for number in range(1, count + 1)]
    fewest = 3 if validation == "next" else 2
    if len(names) < fewest:
        raise SpeechkdError(
            f"{what}: {len(names)} different {'value' if len(names) == 1 else 'values'} "
            f"({', '.join(names) or 'none'}), but folds need {fewest}: "
            + ("one to test, one to validate, and one" if fewest == 3 else "one to test, and one")
            + " to train on. Name another --fold-column"
            + (", or use --fold-validation none." if fewest == 3 and len(names) == 2 else ".")
        )
    own = [fold_of.get(part, "") for part in parts]
    folds = []
    for place, name in enumerate(names):
        valid = names[(place + 1) % len(names)] if validation == "next" else None
        role = {"": "", name: "test"} | ({valid: "valid"} if valid else {})
        folds.append(Fold(name, tuple(role.get(fold, "train") for fold in own)))
    return folds


def _dealt(parts: Sequence[str], names: Sequence[str], count: int, seed: int) -> dict[str, str]:
    """The fold of each part: the largest first, each to the fold that has the fewest rows."""
    size = Counter(parts)
    order = sorted(
        names, key=lambda name: (-size[name], hashlib.sha256(f"{seed}:{name}".encode()).digest())
    )
    rows = [0] * count
    fold_of = {}
    for name in order:
        place = rows.index(min(rows))
        fold_of[name] = f"{place + 1} of {count}"
        rows[place] += size[name]
    return fold_of


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which `Ses2` comes before `Ses10`."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in pieces]
