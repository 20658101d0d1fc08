"""The formats of files of times, by the suffix with which they stand beside a recording."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.shards.recordings import is_file
from pipeline.shards.transcripts import audacity, elan, nist, subtitles, textgrid, whisper
from pipeline.shards.transcripts.segment import Segment, Transcript

Parse = Callable[[Transcript], Iterator[Segment] | None]

MAX_BYTES = 64 * 2**20
"""Largest file of times; ten hours of Whisper's JSON with words take about a quarter."""
_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,2}")


@dataclass(frozen=True)
class Format:
    """A format: its name for people, and the function that reads it.

    The function raises `ValueError` for a broken file, and gives None for a file of this suffix
    that is something else.
    """

    name: str
    parse: Parse
    has_tiers: bool = False
    """Whether a file has several layers, of which a user may name those of speech."""


FORMATS: Mapping[str, Format] = {
    ".json": Format("Whisper's JSON", whisper.parse),
    ".textgrid": Format("TextGrid", textgrid.parse, has_tiers=True),
    ".eaf": Format("ELAN", elan.parse, has_tiers=True),
    ".stm": Format("STM", nist.parse_stm),
    ".ctm": Format("CTM", nist.parse_ctm),
    ".vtt": Format("WebVTT", subtitles.parse_vtt),
    ".srt": Format("SubRip", subtitles.parse_srt),
    ".rttm": Format("RTTM", nist.parse_rttm),
    ".txt": Format("Audacity's labels", audacity.parse),
}
"""By suffix in lower case. Where several lie beside a recording the first of them is taken: it
tells most (words, speakers)."""


class Siblings:
    """The files of one folder, to look up what lies beside a recording.

    Args:
        names: all names in the folder.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower(): name for name in names}
        self._in_languages: dict[str, list[str]] = {}
        for name in self._names:
            stem, _, suffix = name.rpartition(".")
            if f".{suffix}" in (".vtt", ".srt") and _LANGUAGE.fullmatch(Path(stem).suffix):
                without = f"{stem.rpartition('.')[0]}.{suffix}"
                self._in_languages.setdefault(without, []).append(self._names[name])

    def times_of(self, stem: str) -> Iterator[tuple[str, Format]]:
        """The files that may hold the times of a recording, the one that tells most first.

        Downloaded subtitles carry their language (`talk.en.vtt`); they count if there is one.
        """
        for suffix, form in FORMATS.items():
            name = f"{stem}{suffix}".lower()
            in_languages = self._in_languages.get(name, [])
            if name in self._names:
                yield self._names[name], form
            elif len(in_languages) == 1:
                yield in_languages[0], form

    def beside(self, stem: str, suffix: str) -> str | None:
        """The file of this stem and suffix, if there is one; case does not count."""
        return self._names.get(f"{stem}{suffix}".lower())


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark, as Praat writes it.

    Raises:
        ValueError: it is in another encoding.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_times(path: Path) -> str:
    """The text of a file of times.

    Raises:
        ValueError: it is too large, cannot be read, or is in another encoding.
    """
    if not is_file(path):  # a pipe might never end
        raise ValueError("it is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has over {MAX_BYTES:,} bytes")
    return decoded(content)
