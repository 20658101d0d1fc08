"""What several encoders decided on the same minimal pairs, and all that is computed from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import NotThere
from pipeline.models.unknown import Unknown
from pipeline.tasks.blimp import edition_of
from pipeline.tasks.pair_files import Pair
from pipeline.tasks.pair_scores import (
    Contrast,
    contrasts,
    letters,
    pairs_sha256,
    score,
    shorter_sentence,
    words,
)
from pipeline.tasks.pair_table import SHORTER, Column

BLIMP, SUPPLEMENT = "BLiMP", "supplement"


@dataclass(frozen=True)
class Answer:
    """One encoder's.

    Attributes:
        decided_n: its decision on each pair.
        shorter_n: what choosing the sentence of fewer of its tokens decides.
        encoder: what is known about it, as plain JSON values.
        unknown: what its tokenizer does not know, set by set.
    """

    decided_n: Array
    shorter_n: Array
    encoder: Mapping[str, Any]
    unknown: Mapping[str, Unknown]


@dataclass(frozen=True)
class Answers:
    """The answers of all encoders.

    Attributes:
        sets: the pairs of `BLIMP`, and of the `SUPPLEMENT` if that was read.
        of: each encoder's, by its label; the others are compared with the first.

    Raises:
        NotThere: a set is empty.
    """

    sets: Mapping[str, Sequence[Pair]]
    of: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, some in self.sets.items():
            if not some:
                raise NotThere(f"{name}: its files hold no pair at all.")

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of all sets, in the order of the decisions."""
        return [pair for some in self.sets.values() for pair in some]

    def editions(self) -> dict[str, str]:
        """Which edition each set is, by the number of its pairs; empty if none that is known."""
        fields = {name: [pair.field for pair in some] for name, some in self.sets.items()}
        return {
            name: edition_of({field: some.count(field) for field in set(some)})
            for name, some in fields.items()
        }

    def columns(self) -> list[Column]:
        """One per encoder."""
        return [self._column(label, answer.decided_n) for label, answer in self.of.items()]

    def by_words(self) -> Column:
        """What choosing the sentence of fewer words gives."""
        return self._column(SHORTER, shorter_sentence(self.pairs, words))

    def contrasts(self) -> dict[str, dict[str, dict[str, Contrast]]]:
        """Each encoder less the first one, set by set, field by field."""
        first, *others = self.of
        return {
            other: {
                name: contrasts(
                    self.sets[name], part_n, self._parts(self.of[first].decided_n)[name]
                )
                for name, part_n in self._parts(self.of[other].decided_n).items()
            }
            for other in others
        }

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        columns, fewest = self.columns(), self.by_words()
        tokens = [self._column(label, answer.shorter_n) for label, answer in self.of.items()]
        record: dict[str, Any] = {
            "pairs": len(self.sets[BLIMP]),
            "encoders": {label: answer.encoder for label, answer in self.of.items()},
            "first": next(iter(self.of)),
            "unknown_tokens": {n: answer.unknown[BLIMP].record() for n, answer in self.of.items()},
            "scores": {one.label: asdict(one.scores) for one in columns},
            "shorter_sentence": {
                "words": asdict(fewest.scores),
                "tokens": {one.label: asdict(one.scores) for one in tokens},
            },
            **self._set_record(BLIMP),
        }
        if SUPPLEMENT not in self.sets:
            return record
        record["supplement"] = {
            "pairs": len(self.sets[SUPPLEMENT]),
            "unknown_tokens": {n: a.unknown[SUPPLEMENT].record() for n, a in self.of.items()},
            "scores": {c.label: asdict(c.supplement) for c in columns if c.supplement},
            "shorter_sentence": {
                "words": asdict(fewest.supplement) if fewest.supplement else None,
                "tokens": {c.label: asdict(c.supplement) for c in tokens if c.supplement},
            },
            **self._set_record(SUPPLEMENT),
        }
        return record

    def _set_record(self, name: str) -> dict[str, Any]:
        """Which pairs a set holds, what was decided on each, and the differences."""
        return {
            "edition": self.editions()[name],
            "pairs_sha256": pairs_sha256(self.sets[name]),
            "field_of": {pair.paradigm: pair.field for pair in self.sets[name]},
            "decisions": {
                label: letters(self.sets[name], self._parts(answer.decided_n)[name])
                for label, answer in self.of.items()
            },
            "less_first": {
                other: {field: asdict(one) for field, one in by_set[name].items()}
                for other, by_set in self.contrasts().items()
            },
        }

    def _parts(self, decided_n: Array) -> dict[str, Array]:
        first = len(self.sets[BLIMP])
        return dict(zip(self.sets, (decided_n[:first], decided_n[first:]), strict=False))

    def _column(self, label: str, decided_n: Array) -> Column:
        scores = {n: score(self.sets[n], part_n) for n, part_n in self._parts(decided_n).items()}
        return Column(label, scores[BLIMP], scores.get(SUPPLEMENT))
