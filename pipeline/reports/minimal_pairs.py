"""What a page says of minimal pairs, from files that `speechkd probe blimp --out` wrote.

Files of the same pairs and the same way of masking are put together, so that each encoder may have
been asked by a command of its own. Intervals are a bootstrap over pairs within each paradigm
(Efron & Tibshirani 1993, chapter 8), the same draws for both sides, with the noise of pre-training
seeds as in `pipeline.reports.comparison`.

A file has its decisions and the figures that follow from them. These are computed again, and a file
whose figures are others is refused.

Shapes: n pairs, R draws.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.finetuning.cells import Pretrained
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.seeds import derive
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.reports.comparison import DRAWS, pretraining_noise
from pipeline.reports.formats import listed
from pipeline.reports.hearing.bootstrap import Interval, interval_of
from pipeline.reports.page import Section
from pipeline.reports.partners import Group, groups_of, partners_of, titled
from pipeline.tasks.pair_answers import BLIMP, SUPPLEMENT
from pipeline.tasks.pair_scores import DECISIONS
from pipeline.tasks.pair_table import SHORTER

CHAPTER = "Minimal pairs"
ROUNDING = 1e-9


@dataclass(frozen=True)
class PairSet:
    """The answers to one set of pairs.

    Attributes:
        paradigms: of each pair.
        decided: label → the decision on each pair, 1, 0 or 1/2 `[n]`.
        fields: label → field → share of right pairs.
        edition: which edition of the set it is; empty if none that is known.
        shorter: field → what choosing the sentence of fewer words gives.
        as_stated: the fields' shares are the file's own, because it does not tell which paradigms
            make up a field.
    """

    paradigms: tuple[str, ...]
    decided: Mapping[str, Array]
    fields: Mapping[str, Mapping[str, float]]
    edition: str
    shorter: Mapping[str, float]
    as_stated: bool


@dataclass(frozen=True)
class Compared:
    """A group of encoders and what it is compared with, on one set of pairs."""

    pairs: str
    student: Group
    other: Group
    difference: Interval


@dataclass(frozen=True)
class PairReport:
    """Files of the same pairs.

    Attributes:
        files: their paths.
        masking: what was masked with each token, in words.
        encoders: what is known of each, by label.
        sets: the answers, set by set.
    """

    files: tuple[Path, ...]
    masking: str
    encoders: Mapping[str, Pretrained]
    sets: Mapping[str, PairSet]

    @property
    def compared(self) -> list[Compared]:
        """Each group of students over its equal without a teacher, and over its own controls."""
        groups = groups_of(self.encoders)
        compared = []
        for name, one in self.sets.items():
            for group in groups:
                mine = partners_of(group, groups)
                for other in (*([mine.baseline] if mine.baseline else []), *mine.controls):
                    compared.append(Compared(name, group, other, _difference(one, group, other)))
        return compared

    def grid(self) -> list[list[str]]:
        """Accuracies in %: a row per field, a column per encoder."""
        names = {label: titled(label, encoder) for label, encoder in self.encoders.items()}
        rows = [["accuracy in %", *names.values(), SHORTER]]
        for name, one in self.sets.items():
            columns = [*(one.fields[label] for label in names), one.shorter]
            for field in columns[0]:
                rows.append([field, *(_percent(column.get(field)) for column in columns)])
            means = [fmean(column.values()) for column in columns]
            rows.append([f"{name}: mean over fields", *map(_percent, means)])
            shares = [float(one.decided[label].mean()) for label in names]
            rows.append([f"{name}: over pairs", *map(_percent, shares), ""])
        return rows

    def differences(self) -> list[list[str]]:
        """Every comparison with its interval and p; a head alone if there is none."""
        rows = [["set", "encoder", "compared with", "better by", "95 % interval", "p"]]
        for one in self.compared:
            gap = one.difference
            mean, low, high = (f"{100 * x:+.2f}" for x in (gap.mean, gap.low, gap.high))
            rows.append([one.pairs, one.student.title, one.other.title, mean])
            rows[-1] += [f"{low} to {high}", f"{gap.p:.4f}"]
        return rows

    def every_figure(self) -> list[list[object]]:
        """Every figure in full, as lines of `pipeline.reports.tables.every_figure`."""
        return [
            [", ".join(map(str, self.files)), name, label, field, value, "", 1, ""]
            for name, one in self.sets.items()
            for label, fields in one.fields.items()
            for field, value in fields.items()
        ]


def pair_sections(reports: Sequence[PairReport]) -> list[Section]:
    """What a page says of minimal pairs: accuracies, then differences."""
    page: list[Section] = []
    for report in reports:
        text = [f"{report.masking}."] + [
            f"{name}: {len(one.paradigms):,} pairs ({one.edition or 'no known edition'})."
            for name, one in report.sets.items()
        ]
        if stated := [name for name, one in report.sets.items() if one.as_stated]:
            text.append(
                f"Shares per field of {listed(stated)} are as a file states them, because it does "
                "not tell which paradigms make up a field; `probe blimp` now writes that."
            )
        title = f"Minimal pairs of {listed([str(file) for file in report.files])}"
        chapter = "" if page else CHAPTER
        grid, apart = (tuple(map(tuple, x)) for x in (report.grid(), report.differences()))
        page.append(Section(title, tuple(text), grid, chapter=chapter))
        if len(apart) > 1:
            more = (
                "Accuracy over pairs, in points. Intervals are of draws of pairs within each "
                "paradigm, and of pre-training seeds where there are several.",
            )
            page.append(Section("Minimal pairs: differences", more, apart))
    return page


def is_pairs(path: Path) -> bool:
    """Whether a path is a file, which of all results `probe blimp` alone writes."""
    return path.is_file()


def read_pair_reports(paths: Sequence[Path]) -> list[PairReport]:
    """Read files of `probe blimp --out`, and put together those of the same pairs.

    Raises:
        NotThere: there is no such file.
        Damaged: it is none.
        SpeechkdError: one label stands for different weights.
    """
    groups: dict[str, dict[Path, dict[str, Any]]] = {}
    for path in paths:
        record = _read(path)
        extra = record.get("supplement") or {}
        same = [record.get("masking"), record.get("pairs_sha256"), extra.get("pairs_sha256")]
        groups.setdefault(json.dumps(same), {})[path] = record
    return [_report(records) for records in groups.values()]


def _read(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_text_file(path))
    except FileNotFoundError:
        raise NotThere(f"{path}: there is no such file.") from None
    except ValueError as error:
        raise _damaged(path, error) from None
    if not isinstance(record, dict) or not isinstance(record.get("decisions"), dict):
        raise _damaged(path, "no decisions on pairs")
    return record


def _damaged(path: Path, why: object) -> Damaged:
    return Damaged(
        f"{path} is no file that `speechkd probe blimp --out` wrote ({why}); the same command "
        "writes it anew."
    )


def _report(records: Mapping[Path, dict[str, Any]]) -> PairReport:
    encoders: dict[str, Pretrained] = {}
    parts: dict[str, list[PairSet]] = {}
    for path, record in records.items():
        try:
            for label, known in record["encoders"].items():
                one = Pretrained.from_record(known)
                if encoders.setdefault(label, one).weights_sha256 != one.weights_sha256:
                    raise SpeechkdError(
                        f"{label} stands for different weights in {', '.join(map(str, records))}. "
                        "Probe each under a name of its own (--checkpoint NAME=PATH), or report "
                        "them apart."
                    )
            parts.setdefault(BLIMP, []).append(_pair_set(record))
            if "supplement" in record:
                parts.setdefault(SUPPLEMENT, []).append(_pair_set(record["supplement"]))
            for name, several in parts.items():
                if several[-1].paradigms != several[0].paradigms:
                    raise ValueError(f"it has the pairs of {name} in another order than others")
                if not record["encoders"].keys() <= several[-1].decided.keys():
                    raise ValueError("an encoder decided nothing")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from None
    sets = {
        name: PairSet(
            several[0].paradigms,
            {label: x for one in several for label, x in one.decided.items()},
            {label: x for one in several for label, x in one.fields.items()},
            several[0].edition,
            several[0].shorter,
            any(one.as_stated for one in several),
        )
        for name, several in parts.items()
    }
    masking = str(next(iter(records.values())).get("definition", "minimal pairs"))
    return PairReport(tuple(records), masking[:1].upper() + masking[1:], encoders, sets)


def _pair_set(record: Mapping[str, Any]) -> PairSet:
    decided, fields = {}, {}
    paradigms: tuple[str, ...] = ()
    field_of = record.get("field_of")
    for label, letters in record["decisions"].items():
        names = tuple(name for name, several in letters.items() for _ in several)
        values_n = np.array([DECISIONS[one] for several in letters.values() for one in several])
        if names != (paradigms or names):
            raise ValueError("encoders decided other pairs")
        scores = record["scores"][label]
        if not len(values_n):
            raise ValueError("there are no pairs")
        paradigms, decided[label] = names, values_n
        _check("accuracy", label, {"": scores["over_pairs"]}, {"": float(values_n.mean())})
        by_paradigm = _shares(names, values_n)
        _check("share of paradigm", label, scores["paradigms"], by_paradigm)
        fields[label] = {name: float(x) for name, x in scores["fields"].items()}
        if field_of is not None:
            mine = _shares([str(field_of[name]) for name in names], values_n)
            _check("share of field", label, fields[label], mine)
    shorter = {n: float(x) for n, x in record["shorter_sentence"]["words"]["fields"].items()}
    edition = str(record["edition"])
    return PairSet(paradigms, decided, fields, edition, shorter, field_of is None)


def _shares(groups: Sequence[str], values_n: Array) -> dict[str, float]:
    """The mean value of each group."""
    names, group_n = np.unique(np.array(groups), return_inverse=True)
    means = np.bincount(group_n, values_n) / np.bincount(group_n)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def _check(what: str, label: str, stated: Mapping[str, Any], computed: Mapping[str, float]) -> None:
    """Check that a file's figures of an encoder follow from its decisions.

    Raises:
        ValueError: one does not, or lacks.
    """
    for name in sorted({*stated, *computed}):
        apart = float(stated.get(name, np.nan)) - computed.get(name, np.nan)
        if not abs(apart) <= ROUNDING:  # nor is a difference that is no number
            which = f" {name}" if name else ""
            raise ValueError(f"the decisions of {label} do not give its {what}{which}")


def _difference(one: PairSet, group: Group, other: Group) -> Interval:
    sides = [
        {run: one.decided[label] for run, label in side.runs().items()} for side in (group, other)
    ]
    apart_n = np.mean([*sides[0].values()], 0) - np.mean([*sides[1].values()], 0)
    paradigm_n = np.array(one.paradigms)
    drawn_R = np.zeros(DRAWS)
    for name in sorted(set(one.paradigms)):
        values, counts = np.unique(apart_n[paradigm_n == name].round(9), return_counts=True)
        rng = np.random.default_rng(derive("minimal pairs", name, int(counts.sum())))
        drawn_R += rng.multinomial(counts.sum(), counts / counts.sum(), size=DRAWS) @ values
    means = [{run: float(x_n.mean()) for run, x_n in side.items()} for side in sides]
    runs = len(sides[0]), len(sides[1])
    noise = pretraining_noise(*means)
    interval = interval_of(float(apart_n.mean()), drawn_R / len(apart_n), noise, runs)
    if interval is None:
        raise ValueError("decisions are finite")
    return interval


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
