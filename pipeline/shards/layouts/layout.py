"""What a layout of corpora is: how it is known, and how it is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.recordings import AUDIO_SUFFIXES, Entry, is_file
from pipeline.shards.refusals import Refusal
from pipeline.shards.timed import Cutting, Notes
from pipeline.shards.walking import files_below


@dataclass(frozen=True)
class Request:
    """What the user asks of a source."""

    source: Path
    audio_folder: Path | None = None
    cutting: Cutting = field(default_factory=Cutting)
    split: str = ""
    outside_links: bool = False
    columns: RecordingColumns = field(default_factory=RecordingColumns)

    def files(self) -> Iterator[Path]:
        """All files below the source, or the source itself if it is a file."""
        if self.source.is_file():
            return iter([self.source])
        return files_below(self.source, outside_links=self.outside_links)


Read = Callable[[Request, Notes], Iterator[Entry | Refusal]]


@dataclass(frozen=True)
class Layout:
    """A layout of corpora."""

    description: str
    is_at: Callable[[Path], bool]
    """Whether a source has this layout, by a look at its names."""
    read: Read


def split_folders(source: Path, split: str, marks: Callable[[Path], bool]) -> list[Path]:
    """The folders of a corpus that hold a split each: the source itself, or its sub-folders.

    Args:
        source: the corpus.
        split: the split that is wanted; "" if there is one, `all` for all together.
        marks: whether a folder holds a split.

    Raises:
        SpeechkdError: several splits and none is named, or no such split.
    """
    if marks(source):
        if split and split not in ("all", source.name):
            raise SpeechkdError(f"{source} is one split itself; leave --split {split} out.")
        return [source]
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and marks(path)]
    names = ", ".join(path.name for path in folders)
    if split == "all" or (not split and len(folders) == 1):
        return folders
    chosen = [path for path in folders if path.name == split]
    if not chosen:
        missing = f"there is no split {split!r}" if split else f"it has {len(folders)} splits"
        raise SpeechkdError(
            f"{source}: {missing}; its splits are {names}. Name one with --split, or --split all "
            "to put them together."
        )
    return chosen


def with_any_suffix(folder: Path, stem: str, usual: str) -> Path:
    """The recording `stem` in `folder`, with the layout's own suffix or with any that exists."""
    suffixes = (usual, usual.upper(), *AUDIO_SUFFIXES)
    candidates = (folder / f"{stem}{suffix}" for suffix in suffixes)
    return next((path for path in candidates if is_file(path)), folder / f"{stem}{usual}")


def recordings_by_stem(folder: Path, *, outside_links: bool = False) -> dict[str, list[Path]]:
    """The recordings below a folder by their names without suffix."""
    found: dict[str, list[Path]] = {}
    for path in files_below(folder, outside_links=outside_links):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def has_folders(source: Path, *names: str) -> bool:
    """Whether a source is a folder that holds folders of these names."""
    return all((source / name).is_dir() for name in names)


def first_lines(path: Path, count: int = 1) -> Sequence[bytes]:
    """The first lines of a file, cut at 64 KiB each; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return [file.readline(2**16) for _ in range(count)]
    except OSError:
        return []
