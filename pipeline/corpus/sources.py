"""Where the texts of a corpus come from: a cache, tables of texts without speech, or both."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pipeline.cache.store import TeacherCache
from pipeline.foundation.column_names import USUAL_NAMES, usual_column
from pipeline.foundation.compressed import plain_suffix
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.missing import is_missing
from pipeline.foundation.tables import Placed, cell_text, stream_rows, text_lines
from pipeline.foundation.untrusted import is_unicode
from pipeline.foundation.workers import ahead

READ_AHEAD = 4
AT_ONCE = 4096
PLAIN = ".txt"

Sample = Mapping[str, Any]
"""A text with its `key`, its `row`, and its `recording` or None."""


class Source(Protocol):
    """Texts that a corpus can be made of."""

    @property
    def location(self) -> str:
        """Where they are, for messages."""

    @property
    def written(self) -> int:
        """How many there are."""

    def digest(self) -> str:
        """SHA-256 of all that tokens of these texts depend on."""

    def pieces(self) -> Iterator[Sequence[Sample]]:
        """The texts in their order, some at a time."""


@dataclass(frozen=True)
class CacheTexts:
    """The texts of a finished cache of any kind."""

    cache: TeacherCache

    @property
    def location(self) -> str:
        """Of the cache."""
        return self.cache.location

    @property
    def written(self) -> int:
        """How many clips have a text, an empty one included."""
        return self.cache.written

    def digest(self) -> str:
        """That of the cache, its rows included."""
        return self.cache.digest()

    def pieces(self) -> Iterator[Sequence[Sample]]:
        """The samples shard by shard."""
        return ahead(self.cache.shard_samples, self.cache.receipts(), READ_AHEAD)


@dataclass(frozen=True)
class TextTables:
    """Texts without speech, one per row of one table or several.

    Attributes:
        paths: CSV, TSV, JSON lines, JSON or Parquet (`pipeline.foundation.tables`), or plain text
            with a text per line (`.txt`); they may be compressed.
        text_column: column of the texts; empty for the one with a usual name.
        recording_column: column of what texts are of, such as a conversation, so that none of it is
            both trained on and held out; empty for the one with a usual name, if there is one.
    """

    paths: tuple[Path, ...]
    text_column: str = ""
    recording_column: str = ""

    @property
    def location(self) -> str:
        """The files."""
        return " + ".join(map(str, self.paths))

    @property
    def written(self) -> int:
        """How many rows there are."""
        return self._read[0]

    def digest(self) -> str:
        """SHA-256 of the texts and recordings, in whatever form they are written."""
        return self._read[1]

    def pieces(self) -> Iterator[Sequence[Sample]]:
        """The texts in the order of the tables.

        Raises:
            SpeechkdError: a table is missing, broken, has no such column, or a text no UTF-8.
        """
        samples = (
            {"key": place, "text": text, "row": row, "recording": recording}
            for row, (place, text, recording) in enumerate(self._rows())
        )
        while some := list(islice(samples, AT_ONCE)):
            yield some

    @cached_property
    def _read(self) -> tuple[int, str]:
        """How many rows there are, and their digest."""
        digest, count = hashlib.sha256(), 0
        for _, *row in self._rows():
            count += 1
            digest.update(json.dumps(row).encode() + b"\n")
        return count, digest.hexdigest()

    def _rows(self) -> Iterator[tuple[str, str, str | None]]:
        """Place, text and recording of each row of all tables."""
        for path in self.paths:
            rows, text_column, recording_column = self._table(path)
            for place, cells in rows:
                text = cell_text(cells.get(text_column))
                # a spreadsheet's column of row numbers may have an empty name
                recording = cell_text(cells.get(recording_column)) if recording_column else ""
                if not is_unicode(text + recording):
                    raise Damaged(
                        f"{path}, {place}: half a character (a lone surrogate, as JSON may have "
                        "it), which no tokenizer reads. Repair the text, or leave it out."
                    )
                yield f"{path}, {place}", text, None if is_missing(recording) else recording.strip()

    def _table(self, path: Path) -> tuple[Iterator[Placed], str, str]:
        """The rows of a table, and its columns of texts and of recordings."""
        if plain_suffix(path) == PLAIN:
            return text_lines(path), "text", ""
        names, rows = stream_rows(path)
        for flag, name in (
            ("--text-column", self.text_column), ("--recording-column", self.recording_column)
        ):  # fmt: skip
            if name and name not in names:
                raise SpeechkdError(
                    f"{path}: no column {name!r} ({flag}); its columns are "
                    f"{', '.join(map(repr, names))}."
                )
        text_column = self.text_column or usual_column("text", names)
        if not text_column:
            raise SpeechkdError(
                f"{path}: no column for the texts (looked for "
                f"{', '.join(USUAL_NAMES['text'].split())}); its columns are "
                f"{', '.join(map(repr, names))}. Name one with --text-column; a file without names "
                "of columns, one text per line, must be called .txt."
            )
        return rows, text_column, self.recording_column or usual_column("recording", names)


@dataclass(frozen=True)
class Both:
    """The texts of a cache, and behind them those without speech.

    Attributes:
        spoken: of the cache.
        texts: the others; the number of their first row is one more than the cache's last.
    """

    spoken: CacheTexts
    texts: TextTables

    @property
    def location(self) -> str:
        """Of both."""
        return f"{self.spoken.location} and {self.texts.location}"

    @property
    def written(self) -> int:
        """How many there are in all."""
        return self.spoken.written + self.texts.written

    def digest(self) -> str:
        """Of both together."""
        return json_sha256([self.spoken.digest(), self.texts.digest()])

    def pieces(self) -> Iterator[Sequence[Sample]]:
        """Those with speech first."""
        yield from self.spoken.pieces()
        cache = self.spoken.cache
        end = cache.rows_of(len(cache.manifest) - 1).stop if len(cache.manifest) else 0
        for samples in self.texts.pieces():
            yield [{**sample, "row": end + sample["row"]} for sample in samples]


def source_of(cache: TeacherCache | None, texts: TextTables | None) -> Source:
    """The texts of a cache, of tables, or of both.

    Raises:
        ValueError: there is neither.
    """
    if cache is not None:
        return CacheTexts(cache) if texts is None else Both(CacheTexts(cache), texts)
    if texts is None:
        raise ValueError("there is neither a cache nor a table")
    return texts
