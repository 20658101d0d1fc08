"""Everything that is asked of some clips or words, and what one encoder tells of it.

Shapes: n items, m items of a view, E width of the teacher, T named targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.foundation.arrays import Array
from pipeline.foundation.progress import counted
from pipeline.foundation.seeds import derive
from pipeline.tasks.hearing.asking import ROUNDING, Asked, Features, View, ask, tell
from pipeline.tasks.hearing.names import Level
from pipeline.tasks.hearing.retrieval import places

VECTOR = "vector"


@dataclass(frozen=True)
class Items:
    """Clips or words that are judged.

    Attributes:
        level: which of the two.
        clip_n: place of the clip among those that are read.
        key_n: the clip's key.
        number_n: place of a word in its clip; −1 for a clip.
        text_n: the word; empty for a clip.
        recording_n: number of the recording.
        speaker_n: number of the speaker, or of the recording where no speaker is known; `UNKNOWN`
            where neither is.
        type_n: number of what a word is spelled with; `UNKNOWN` for a clip.
        half_n: 0 or 1.
        fold_n: fold within the half.
    """

    level: Level
    clip_n: Array
    key_n: Sequence[str]
    number_n: Array
    text_n: Sequence[str]
    recording_n: Array
    speaker_n: Array
    type_n: Array
    half_n: Array
    fold_n: Array

    def __len__(self) -> int:
        return len(self.key_n)

    def groups(self, view: View) -> Array:
        """The group of each item whose mean a view takes away."""
        return {
            "raw": np.zeros(len(self), np.int64),
            "within speaker": self.speaker_n,
            "within word": self.type_n,
        }[view]


@dataclass(frozen=True)
class Examination:
    """What is asked of some items.

    Attributes:
        items: the items.
        vectors: the teacher's vectors, per view.
        targets: named targets, those of the same items together.
        sought_n: among how many candidates each item is sought; 0 for one that is not.
        missing: what is not asked, and why, in words.
    """

    items: Items
    vectors: Sequence[Asked]
    targets: Sequence[Asked]
    sought_n: Array
    missing: Sequence[str]

    def truths(self) -> dict[str, Array]:
        """Columns `[n]` of what was heard, the same for every encoder; NaN where it does not count.

        `total:VIEW` is the mean square of a vector's values, which is what there is to explain, and
        `heard:TARGET:VIEW` a named target.
        """
        columns = {
            f"total:{asked.view}": self._spread(asked, np.square(asked.heard_mE).mean(1))
            for asked in self.vectors
        }
        return columns | self._named("heard", [(one, one.heard_mE) for one in self.targets])

    def answers(self, features: Features, device: torch.device) -> dict[str, Array]:
        """Columns `[n]` of what an encoder tells; NaN where it does not count.

        `error:VIEW` is the mean squared error of a vector, `better` and `equal` how many of the
        candidates are nearer to a prediction than its own and how many as near, and
        `told:TARGET:VIEW` a prediction of a named target.
        """
        columns: dict[str, Array] = {}
        for asked in self.vectors:
            told_mE = tell(asked, features, together=True, device=device)
            error_m = np.square(told_mE - asked.heard_mE).mean(1)
            columns[f"error:{asked.view}"] = self._spread(asked, error_m)
            if asked.view == "raw":
                columns |= self._retrieved(asked, told_mE, device)
        pairs = [
            (asked, tell(asked, features, together=False, device=device)) for asked in self.targets
        ]
        return columns | self._named("told", pairs)

    def _retrieved(self, asked: Asked, told_mE: Array, device: torch.device) -> dict[str, Array]:
        columns = {name: np.full(len(self.items), np.nan) for name in ("better", "equal")}
        for half in (0, 1):
            pool = np.flatnonzero((asked.half_m == half) & (self.sought_n[asked.item_m] > 0))
            better_p, equal_p = places(
                *(torch.from_numpy(x_mE[pool]).to(device) for x_mE in (told_mE, asked.heard_mE))
            )
            columns["better"][asked.item_m[pool]] = better_p.cpu().numpy()
            columns["equal"][asked.item_m[pool]] = equal_p.cpu().numpy()
        return columns

    def _named(self, kind: str, pairs: Sequence[tuple[Asked, Array]]) -> dict[str, Array]:
        return {
            f"{kind}:{name}:{asked.view}": self._spread(asked, value_mE[:, place])
            for asked, value_mE in pairs
            for place, name in enumerate(asked.names)
        }

    def _spread(self, asked: Asked, value_m: Array) -> Array:
        value_n = np.full(len(self.items), np.nan)
        value_n[asked.item_m] = value_m
        return value_n


def examine(
    items: Items,
    vector_nE: Array | None,
    targets: Mapping[str, Array],
    *,
    among: int,
    seed: int,
) -> Examination:
    """Decide what is asked of some items.

    Args:
        items: the items.
        vector_nE: the teacher's vector of each; None if there is none.
        targets: named targets `[n]`, NaN where one cannot be told.
        among: the most candidates in each half among which an item is sought; they are drawn.
        seed: of the draw.
    """
    missing: list[str] = []

    def asked(names: tuple[str, ...], value_nE: Array, views: Sequence[View]) -> list[Asked]:
        several = []
        for view in views:
            one = ask(names, view, value_nE, items.groups(view), items.half_n, items.fold_n)
            if isinstance(one, str):
                missing.append(f"{' and '.join(names)} of {items.level}s ({view}): {one}")
            else:
                several.append(one)
                if one.alone:
                    missing.append(
                        f"{' and '.join(names)} of {items.level}s ({view}): "
                        f"{counted(one.alone, items.level)} left out, because no other one in the "
                        "half is of that group"
                    )
        return several

    vectors: list[Asked] = []
    if vector_nE is not None:
        views: list[View] = ["raw", "within speaker"]
        vectors = asked((VECTOR,), vector_nE, [*views, "within word"]
                        if items.level == "word" else views)  # fmt: skip
    named: dict[bytes, list[str]] = {}
    for name, value_n in targets.items():
        if differ(value_n, items.half_n):
            named.setdefault(np.isfinite(value_n).tobytes(), []).append(name)
        else:
            missing.append(f"{name} of {items.level}s: it does not differ, or is not known")
    values: list[Asked] = []
    for names in named.values():
        value_nT = np.stack([targets[name] for name in names], axis=1)
        values += asked(tuple(names), value_nT, ["raw", "within speaker"])
    return Examination(items, vectors, values, _sought(items, vectors, among, seed), missing)


def differ(value_n: Array, half_n: Array) -> bool:
    """Whether known values of both halves differ by more than rounding."""
    for half in (0, 1):
        known = value_n[(half_n == half) & np.isfinite(value_n)]
        if len(known) < 2 or known.std() <= ROUNDING * np.abs(known).max():
            return False
    return True


def _sought(items: Items, vectors: Sequence[Asked], among: int, seed: int) -> Array:
    sought_n = np.zeros(len(items), np.int64)
    for asked in vectors:
        if asked.view == "raw":
            for half in (0, 1):
                mine = asked.item_m[asked.half_m == half]
                rng = np.random.default_rng(derive(seed, "candidates", items.level, half))
                pool = rng.permutation(mine)[:among]
                sought_n[pool] = len(pool)
    return sought_n
