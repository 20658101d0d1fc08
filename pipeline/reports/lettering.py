"""Names in pictures: drawn if a font here has their letters, numbered if none has."""

import functools
import textwrap
from collections.abc import Iterable, Sequence

from matplotlib import font_manager

LONGEST_NAME, LONGEST_LINE = 20, 36
"""Letters of the name of a class, and of a line above a panel."""
MOST_LINES = 3
"""Lines that a name may take above a panel."""


@functools.lru_cache(maxsize=1)
def _usual() -> frozenset[int]:
    return _letters(font_manager.findfont("DejaVu Sans"))


@functools.lru_cache(maxsize=256)
def _letters(file: str) -> frozenset[int]:
    """The characters that a font has."""
    return frozenset(font_manager.get_font(file).get_charmap())


@functools.lru_cache(maxsize=64)
def _family_with(characters: frozenset[int]) -> str:
    """A font on this machine that has all these characters; empty if there is none."""
    for entry in font_manager.fontManager.ttflist:
        if entry.name.startswith("Last Resort"):  # it draws a box for every letter that there is
            continue
        if entry.style == "normal" and entry.weight in (400, "normal", "regular", "book"):
            try:
                if characters <= _letters(entry.fname):
                    return entry.name
            except (OSError, RuntimeError):  # a file that is no font matplotlib can read
                continue
    return ""


def _missing(names: Iterable[str]) -> frozenset[int]:
    used = {ord(letter) for name in names for letter in name if not letter.isspace()}
    return frozenset(used - _usual())


def families(names: Iterable[str]) -> list[str]:
    """Families of fonts that together draw what can be drawn of some names."""
    others = [_family_with(_missing([name])) for name in names if _missing([name])]
    return ["DejaVu Sans", *dict.fromkeys(filter(None, others))]


def is_drawable(name: str) -> bool:
    """Whether a font here has all letters of a name."""
    missing = _missing([name])
    return not missing or bool(_family_with(missing))


def shown(names: Sequence[str], what: str) -> list[str]:
    """Names as they stand in a picture: themselves, or `class 3` for the third one.

    Args:
        names: in the order of the tables.
        what: what is numbered.
    """
    return [
        name if is_drawable(name) else f"{what} {number}"
        for number, name in enumerate(names, start=1)
    ]


def key(names: Sequence[str], what: str) -> list[str]:
    """A sentence that says which names stand as numbers; none if all can be drawn."""
    numbered = [
        f"{what} {number} is {name}"
        for number, name in enumerate(names, start=1)
        if not is_drawable(name)
    ]
    if not numbered:
        return []
    return [
        f"No font here has the letters of some names, so in the pictures {'; '.join(numbered)}. A "
        "font that has them, such as Noto Sans CJK, shows them."
    ]


def plain(text: str) -> str:
    """A label in which `$` does not start a formula."""
    return text.replace("$", r"\$")


def short(name: str, most: int = LONGEST_NAME) -> str:
    """A name without its middle, if it is too long."""
    half = most // 2
    return plain(name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}")


def broken(name: str) -> str:
    """A name whose remark in brackets has a line of its own; longer lines are broken, too."""
    lines = [
        short(line, MOST_LINES * LONGEST_LINE) for line in name.replace(" (", "\n(").split("\n")
    ]
    return "\n".join(textwrap.fill(line, LONGEST_LINE) for line in lines)
