"""NXT-Switchboard (Calhoun et al. 2010, LDC2009T26): stand-off XML of words, their times and acts.

`xml/dialAct/sw2005.A.dialAct.xml` has `da` elements with `niteType` (an act's name) and `swbdType`
(SWBD-DAMSL's tag as it was written), whose `nite:child` elements point at words of
`xml/terminals/sw2005.A.terminals.xml`: one each, `#id(s2_1)`, or a range, `#id(s2_1)..id(s2_5)`.
A word has `orth`, `nite:start` and `nite:end`; the times may be `n/a` or `non-aligned`. Of an act
the first start and the last end count.

Expat reads the files as a stream. A document type or an entity is refused, so nothing is expanded.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias
from xml.parsers import expat

from pipeline.foundation.errors import Damaged, NotThere
from pipeline.foundation.units import Seconds
from pipeline.foundation.untrusted import check_size
from pipeline.tasks.switchboard.acts import Said, Side, side_of

Labels: TypeAlias = Literal["nite", "swbd"]
ATTRIBUTES: dict[Labels, str] = {"nite": "niteType", "swbd": "swbdType"}
EXCLUDED = "excluded"
Element: TypeAlias = tuple[str, dict[str, str]]
_FILE = re.compile(r"sw(\d{4})\.([AB])\.dialAct\.xml")
_TARGET = re.compile(r"[^#]*#id\(([^()]+)\)(?:\.\.id\(([^()]+)\))?")
_SPEAKER = re.compile(r".*#id\(([^()]+)\)")
_ATTACHED = re.compile(r" (?=n't\b|'\w)")


def folder_of(root: Path) -> Path | None:
    """The folder `xml` of a release, if one is there: `dialAct` and `terminals` are in it."""
    for place in (root, root / "xml", root / "nxt_switchboard_ann" / "xml"):
        if (place / "dialAct").is_dir() and (place / "terminals").is_dir():
            return place
    return None


def read_nxt(xml: Path, labels: Labels, notes: Counter[str]) -> Iterator[Said]:
    """The acts of all conversations, in the order of files.

    Args:
        xml: folder of the layers.
        labels: which of the two names of an act is its label.
        notes: gets the number of acts that are excluded.

    Raises:
        NotThere: there are no acts, or the words of some are missing.
        Damaged: a file is no XML of this kind, or an act points at a word that is not there.
    """
    files = sorted((xml / "dialAct").glob("sw*.dialAct.xml"))
    speakers = _speakers(xml / "corpus-resources" / "dialogues.xml")
    any_acts = False
    for file in files:
        name = _FILE.fullmatch(file.name)
        side = side_of(name[2]) if name else None
        if name is None or side is None:
            continue
        number = name[1]
        speaker = speakers.get((number, side), f"sw{number}{side}")
        words = xml / "terminals" / f"sw{number}.{side}.terminals.xml"
        if not words.is_file():
            raise NotThere(f"{words}: the words of {file.name} are missing. Unpack all of xml/.")
        any_acts = True
        yield from _acts(file, words, number, side, speaker, labels, notes)
    if not any_acts:
        raise NotThere(f"{xml / 'dialAct'} has no file such as sw2005.A.dialAct.xml.")


def _acts(
    file: Path,
    words_file: Path,
    number: str,
    side: Side,
    speaker: str,
    labels: Labels,
    notes: Counter[str],
) -> Iterator[Said]:
    terminals = [e for e in elements(words_file) if "nite:id" in e[1]]
    place_of = {attributes["nite:id"]: i for i, (_, attributes) in enumerate(terminals)}
    acts: list[tuple[dict[str, str], list[Element]]] = []
    for tag, attributes in elements(file):
        if tag == "da":
            acts.append((attributes, []))
        elif tag == "nite:child" and acts:
            for place in _places(attributes.get("href", ""), place_of, file):
                acts[-1][1].append(terminals[place])
    for count, (attributes, of_act) in enumerate(acts, start=1):
        label = attributes.get(ATTRIBUTES[labels], "").strip()
        if not label:
            raise Damaged(f"{file}: act {count} has no {ATTRIBUTES[labels]}.")
        if attributes.get("niteType") == EXCLUDED:
            notes["acts that NXT excludes, left out"] += 1
            continue
        words = [attributes for tag, attributes in of_act if tag == "word"]
        spans = [span for word in words if (span := _span(word)) is not None]
        yield Said(
            number=number,
            side=side,
            name=attributes.get("nite:id") or f"act{count}",
            start=min((start for start, _ in spans), default=None),
            end=max((end for _, end in spans), default=None),
            text=_ATTACHED.sub("", " ".join(word.get("orth", "").strip() for word in words)),
            act=label,
            speaker=speaker,
        )


def _places(href: str, place_of: dict[str, int], file: Path) -> range:
    """Places of the words that a pointer means."""
    target = _TARGET.fullmatch(href.strip())
    if target is None:
        raise Damaged(f"{file}: {href[:80]!r} points at no word, as `file#id(s2_1)` does.")
    first, last = target[1], target[2] or target[1]
    if first not in place_of or last not in place_of:
        raise Damaged(f"{file}: {href[:80]!r} points at a word that its file does not have.")
    return range(place_of[first], place_of[last] + 1)


def _span(word: dict[str, str]) -> tuple[Seconds, Seconds] | None:
    """Start and end of a word; None if one of them is no number."""
    try:
        start, end = float(word.get("nite:start", "")), float(word.get("nite:end", ""))
    except ValueError:
        return None
    return (start, end) if math.isfinite(start) and math.isfinite(end) else None


def _speakers(file: Path) -> dict[tuple[str, Side], str]:
    """Who speaks on which side, from the file of dialogues; nothing if there is none."""
    speakers: dict[tuple[str, Side], str] = {}
    number = ""
    for tag, attributes in elements(file) if file.is_file() else ():
        if tag == "dialogue":
            number = attributes.get("swbdid", "")
        elif tag == "nite:pointer":
            side = side_of(attributes.get("role", ""))
            who = _SPEAKER.fullmatch(attributes.get("href", ""))
            if number and side and who:
                speakers[number, side] = who[1]
    return speakers


def elements(path: Path) -> list[Element]:
    """Names and attributes of all elements of an XML file, in the order of their starts.

    Raises:
        Damaged: it is no XML, or has a document type or an entity.
    """
    starts: list[Element] = []

    def refuse(*_: object) -> NoReturn:
        raise Damaged(f"{path} has a document type or an entity, which no file of NXT needs.")

    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: starts.append((tag, attributes))
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    check_size(str(path), path.stat().st_size)
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise Damaged(f"{path} is no XML: {error}.") from None
    return starts
