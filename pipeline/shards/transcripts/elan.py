"""ELAN's .eaf (EAF format, https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf).

Expat reads it as a stream. A document type or an entity is refused, so nothing is expanded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from pipeline.foundation.units import Seconds
from pipeline.shards.transcripts.segment import Segment, Transcript
from pipeline.shards.transcripts.tiers import Tier, segments_of_tiers


def parse(transcript: Transcript) -> Iterator[Segment]:
    """The annotations with times of the tiers that hold speech (`tiers.segments_of_tiers`).

    A tier that hangs on another one (words, glosses, a translation) is left out, unless it holds
    words with times. The participant of a tier is its speaker.

    Raises:
        ValueError: it is not ELAN's XML, has a document type, or nothing says which of its tiers
            are meant.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
    text = transcript.text.lstrip("\ufeff")
    try:
        parser.Parse(_without_declaration(text).encode(), True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from None
    if not reader.is_elan:
        raise ValueError("its root is not ANNOTATION_DOCUMENT")
    named = set(transcript.tiers)
    tiers = [
        tier.placed(reader.slots)
        for tier in reader.tiers
        if tier.annotations and (not tier.parent or tier.name in named or "word" in tier.kind)
    ]
    return segments_of_tiers(tiers, transcript.tiers)


def _refuse(*_: object) -> NoReturn:
    raise ValueError("it has a document type or an entity, which no ELAN file needs")


def _without_declaration(text: str) -> str:
    """The text is decoded already, so what it says of its encoding no longer holds."""
    if text.startswith("<?xml"):
        _, end, rest = text.partition("?>")
        return rest if end else text
    return text


@dataclass
class _Tier:
    name: str
    speaker: str | None
    parent: str
    kind: str
    annotations: list[tuple[str, str, str]] = field(default_factory=list)
    """Of each annotation the slots of its start and its end, and its text."""

    def placed(self, slots: dict[str, Seconds | None]) -> Tier:
        """With times; an annotation whose slot has none begins or ends with its neighbour."""
        name = "words" if "word" in self.kind else self.name
        tier = Tier(name, speaker=self.speaker)
        for first, last, text in self.annotations:
            start_s, end_s = slots.get(first), slots.get(last)
            if start_s is None or end_s is None:
                raise ValueError(
                    f"the annotation {text!r:.40} of tier {self.name!r} has no time of its own; "
                    "align it in ELAN, or name another tier with --tier"
                )
            tier.intervals.append((start_s, end_s, text))
        return tier


class _Reader:
    """Expat's events, gathered: slots of time and tiers."""

    def __init__(self) -> None:
        self.is_elan = False
        self.slots: dict[str, Seconds | None] = {}
        self.tiers: list[_Tier] = []
        self._slots_of_annotation: tuple[str, str] | None = None
        self._text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        match tag:
            case "ANNOTATION_DOCUMENT":
                self.is_elan = True
            case "TIME_SLOT":
                value = attributes.get("TIME_VALUE", "")
                seconds = int(value) / 1000 if value.isdecimal() and len(value) < 12 else None
                self.slots[attributes.get("TIME_SLOT_ID", "")] = seconds
            case "TIER":
                name = attributes.get("TIER_ID", "")
                speaker = attributes.get("PARTICIPANT", "").strip() or None
                parent = attributes.get("PARENT_REF", "")
                kind = f"{name} {attributes.get('LINGUISTIC_TYPE_REF', '')}".lower()
                self.tiers.append(_Tier(name, speaker, parent, kind if parent else ""))
            case "ALIGNABLE_ANNOTATION":
                slots = (attributes.get(f"TIME_SLOT_REF{number}", "") for number in (1, 2))
                first, last = slots
                self._slots_of_annotation = (first, last)
            case "ANNOTATION_VALUE":
                self._text = []

    def characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        if tag == "ANNOTATION_VALUE" and self._text is not None:
            text, self._text = "".join(self._text), None
            if self._slots_of_annotation and self.tiers and text.strip():
                self.tiers[-1].annotations.append((*self._slots_of_annotation, text))
        elif tag == "ALIGNABLE_ANNOTATION":
            self._slots_of_annotation = None
