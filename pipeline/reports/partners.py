"""Who is compared with whom: a student with its equal without a teacher, and its own control.

Encoders that differ in their pre-training seed alone are one group. A group of students has

- as its baseline the group trained with `--kd none` of the same setup: size, corpus, tokenizer and
  recipe;
- as its controls the groups of the same setup and the same teaching (objectives, their weights and
  settings, the teacher's cache), whose vectors were shuffled or random.

What `pretrain` made also has

- the group that it began with, as SPLAT's alignment begins with masked audio;
- the group of the same encoders with fresh weights (`fresh:RUN`, `scratch:RUN`), its own or of what
  it began with.

An encoder that has no such partner is shown and not compared. Names play no part.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.finetuning.cells import Pretrained
from pipeline.reports.formats import listed
from pipeline.reports.starts import LONGEST, OF_FRESH, alike, by_recipe, is_fresh, recipe

MOST_NAMED = 4
"""Differences between setups that are named in one sentence."""


@dataclass(frozen=True)
class Group:
    """Encoders that differ in their pre-training seed alone.

    Attributes:
        name: what to call it in comparisons: the label of its only encoder, or what the labels
            have in common.
        members: the encoders by label, as `starts.by_recipe` gives them; of equal weights only one.
        again: labels of equal weights that do not count again.
    """

    name: str
    members: Mapping[str, Pretrained]
    again: Sequence[str] = ()

    @property
    def first(self) -> Pretrained:
        """One of them: what all have in common."""
        return next(iter(self.members.values()))

    @property
    def is_student(self) -> bool:
        """Whether they come from runs with a teacher, controls included."""
        return self.first.objective not in (None, "none")

    @property
    def title(self) -> str:
        """Name, and what they are if that is not in the name."""
        return titled(self.name, self.first)

    def runs(self) -> dict[str, str]:
        """The label of each member by what tells it from the others: its seed, or its label."""
        seeds = [encoder.pretraining_seed for encoder in self.members.values()]
        distinct = None not in seeds and len(set(seeds)) == len(seeds)
        return {
            str(encoder.pretraining_seed) if distinct else label: label
            for label, encoder in self.members.items()
        }


@dataclass(frozen=True)
class Partners:
    """The group that a group is compared with, its controls, and why there is none.

    Attributes:
        baseline: the same without a teacher.
        controls: the same with vectors that cannot help.
        why: why there is no baseline; empty if there is one, or none is needed.
        by_size_alone: whether the records say no more of setups than the size.
        start: of what `pretrain` made, what it began with.
        fresh: the same with fresh weights, or what it began with with fresh weights.
    """

    baseline: Group | None = None
    controls: tuple[Group, ...] = ()
    why: str = ""
    by_size_alone: bool = False
    start: Group | None = None
    fresh: Group | None = None


def titled(name: str, encoder: Pretrained) -> str:
    """A name in tables, with what the encoder is if that is not in the name."""
    remarks = []
    if encoder.objective and not _tells(name, encoder.objective):
        distilled = encoder.method is None or encoder.objective == "none"
        remarks.append(f"kd {encoder.objective}" if distilled else encoder.objective)
    if encoder.is_control:
        remarks.append(f"CONTROL: {encoder.control} teacher")
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _tells(name: str, objective: str) -> bool:
    """Whether a name says the objective: as a word of it, and without the word of no teacher."""
    said, words = _words(name), _words(objective)
    if objective != "none" and "-none-" in said:
        return False
    return words in said


def _words(text: str) -> str:
    """The words of a name, each between hyphens."""
    return f"-{'-'.join(re.findall('[0-9A-Za-z]+', text))}-"


def groups_of(encoders: Mapping[str, Pretrained]) -> list[Group]:
    """The groups of some encoders, in their order; labels of equal weights count once."""
    members: dict[str, dict[str, Pretrained]] = {}
    first: dict[tuple[str, str], str] = {}
    again: dict[str, list[str]] = {}
    for label, encoder in by_recipe(encoders).items():
        key = alike(label, encoder)
        if encoder.objective is not None or is_fresh(encoder):
            # fresh weights are equal to those of other recipes of the same size, and stay apart
            weights = key if is_fresh(encoder) else "", encoder.weights_sha256
            if weights in first:
                again.setdefault(first[weights], []).append(label)
                continue
            first[weights] = label
        members.setdefault(key, {})[label] = encoder
    groups: list[dict[str, Pretrained]] = []
    for several in members.values():
        seeds = [encoder.pretraining_seed for encoder in several.values()]
        known = all(encoder.setup is not None for encoder in several.values())
        if known or len(set(seeds)) == len(seeds):
            groups.append(several)
        else:  # records that do not tell recipes apart, and the seeds show that there are several
            groups += [{label: encoder} for label, encoder in several.items()]
    names = [_name(list(several)) for several in groups]
    return [
        Group(
            name if names.count(name) == 1 else " + ".join(several),
            several,
            [other for label in several for other in again.get(label, ())],
        )
        for name, several in zip(names, groups, strict=True)
    ]


def _name(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return labels[0]
    return f"{common_name(labels)} ({len(labels)} pre-training seeds)"


def common_name(labels: Sequence[str]) -> str:
    """What labels have in common before the numbers of their seeds; the only label as it is."""
    if len(labels) == 1:
        return labels[0]
    equal = itertools.takewhile(lambda several: len(set(several)) == 1, zip(*labels, strict=False))
    common = "".join(several[0] for several in equal).rstrip("0123456789").rstrip("-_. ")
    return common.removesuffix("seed").rstrip("-_. ") or labels[0]


def partners_of(group: Group, groups: Sequence[Group]) -> Partners:
    """Whom to compare a group with, of all groups."""
    start, fresh = _start(group, groups), _fresh(group, groups)
    if not group.is_student:
        return Partners(fresh=fresh)
    mine = group.first
    others = [other for other in groups if other.first.objective == "none"]
    same = [other for other in others if _same(mine.setup, other.first.setup, mine, other.first)]
    sure = [other for other in same if mine.setup is not None and other.first.setup is not None]
    candidates = sure or same
    controls = tuple(
        other
        for other in groups
        if not mine.is_control
        and other.first.is_control
        and other.first.objective == mine.objective
        and _same(mine.setup, other.first.setup, mine, other.first)
        and _same(mine.teaching, other.first.teaching, mine, other.first)
    )
    by_size = mine.setup is None or any(other.first.setup is None for other in candidates)
    if len(candidates) == 1:
        return Partners(candidates[0], controls, "", by_size, start, fresh)
    return Partners(None, controls, _why(mine, others, candidates), by_size, start, fresh)


def _start(group: Group, groups: Sequence[Group]) -> Group | None:
    """What `pretrain` began with, if that is among some groups."""
    if group.first.method is None:
        return None
    begun = {value for value in (group.first.setup or {}).values() if isinstance(value, str)}
    return next((other for other in groups if other is not group and _recipe(other) in begun), None)


def _fresh(group: Group, groups: Sequence[Group]) -> Group | None:
    """The same with fresh weights, or what it began with, if that is among some groups."""
    if is_fresh(group.first) or not (group.is_student or group.first.method is not None):
        return None
    one: Group | None = group
    for _ in range(LONGEST):
        if one is None:
            return None
        begun = {OF_FRESH + _recipe(one), *(one.first.setup or {}).values()}
        for other in groups:
            if is_fresh(other.first) and begun & {*(other.first.setup or {}).values()}:
                return other
        one = _start(one, groups)
    return None


def _recipe(group: Group) -> str:
    return recipe(next(iter(group.members)), group.first)


def _same(one: Any, other: Any, mine: Pretrained, theirs: Pretrained) -> bool:
    """Whether two setups or teachings are equal, as far as the records know."""
    return mine.parameters == theirs.parameters and (one is None or other is None or one == other)


def _why(mine: Pretrained, others: Sequence[Group], candidates: Sequence[Group]) -> str:
    if candidates:
        names = listed([other.name for other in candidates])
        return (
            f"{names} are all of its size, and their records do not say which of them is its equal "
            "without a teacher"
        )
    if not others:
        return "no encoder here was trained with --kd none"
    closest = min(others, key=lambda other: len(_differences(mine, other.first)))
    differences = _differences(mine, closest.first)
    more = len(differences) - MOST_NAMED
    shown = "; ".join(differences[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
    return (
        f"no encoder here is its equal without a teacher (closest is {closest.name}, of another "
        f"{shown})"
    )


def _differences(mine: Pretrained, other: Pretrained) -> list[str]:
    differences = []
    if mine.parameters != other.parameters:
        differences.append(f"size: {mine.parameters:,} parameters here, {other.parameters:,} there")
    here, there = mine.setup or {}, other.setup or {}
    for name in sorted(here.keys() & there.keys()):
        if here[name] != there[name] and not (name == "config" and differences):
            values = [str(side[name]) for side in (here, there)]
            short = "" if max(map(len, values)) > 40 else f": {values[0]} here, {values[1]} there"
            differences.append(f"{name}{short}")
    return differences
