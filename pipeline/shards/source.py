"""A source: a corpus whose layout is known, ready to be read."""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.shards.recordings import Entry
from pipeline.shards.refusals import Refusal
from pipeline.shards.timed import Notes


@dataclass(frozen=True)
class Source:
    """A corpus of recordings and transcripts whose layout is known."""

    root: Path
    layout: str
    description: str
    """The layout, and the column of each field, as one line for the user."""
    read: Callable[[], Iterator[Entry | Refusal]]
    """Start reading from the top. Each call gives the same entries."""
    notes: Notes = field(default_factory=Notes)
    """What the last reading met that the user should know."""
    name: str = ""
    """As the user gave it."""
    audio_folder: Path | None = None
    """The folder of recordings that the user named."""
    asked: Set[str] = frozenset()
    """The flags that the user gave, all of which its layout takes."""
