"""The files of a corpus in one order on every machine, and those that nothing uses."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError, Unreachable
from pipeline.shards.recordings import AUDIO_SUFFIXES

KINDS_SHOWN = 12
TEXT_ALONE = ".txt without a recording of the same name"
RECORDING = "recordings that nothing names"
BROKEN = "links to nothing"


def files_below(folder: Path, *, outside_links: bool = False) -> Iterator[Path]:
    """All files below `folder`, sorted so that every machine sees the same order.

    Hidden files are left out, because macOS puts a `._name.wav`, which is not audio, beside each.
    A link to a folder that the walk meets anyway is not followed, so that nothing comes twice.

    Args:
        folder: where to begin.
        outside_links: also follow links to folders outside of `folder`, each folder once.

    Raises:
        Unreachable: a folder cannot be read.
        SpeechkdError: a link leads in a circle, or out of `folder` without leave.
    """
    root = folder.resolve()
    yield from _files_in(folder, root, {root} if outside_links else None, root)


def _files_in(folder: Path, real: Path, met: set[Path] | None, root: Path) -> Iterator[Path]:
    folders = []
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise Unreachable(f"{error.filename} cannot be read: {error.strerror}.") from None
    for entry in listed:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        if not entry.is_dir():
            yield path
        elif not entry.is_symlink():
            folders.append((path, real / entry.name))
        elif (target := _followed(path, real, met, root)) is not None:
            folders.append((path, target))
    for path, target in folders:
        yield from _files_in(path, target, met, root)


def _followed(link: Path, parent: Path, met: set[Path] | None, root: Path) -> Path | None:
    """Where a link to a folder leads, if it is to be followed."""
    target = link.resolve()
    if parent.is_relative_to(target):
        raise SpeechkdError(
            f"{link} is a link to {target}, which holds the link itself: a walk would go in "
            "circles. Remove the link."
        )
    if target.is_relative_to(root):
        return None  # the walk meets the folder itself
    if met is None:
        raise SpeechkdError(
            f"{link} is a link to {target}, outside of the corpus. If what is there belongs to it, "
            "add --follow-links; otherwise remove the link."
        )
    if any(target.is_relative_to(folder) for folder in met):
        return None
    met.add(target)
    return target


def passed_over(folder: Path, used: set[str], *, outside_links: bool = False) -> list[str]:
    """What a folder holds and nothing uses: a line per kind, with an example.

    Files with the name of a used recording and another suffix belong to it and do not count.

    Args:
        folder: the corpus.
        used: paths of recordings and of texts that are used.
        outside_links: as for `files_below`.

    Raises:
        SpeechkdError: as `files_below`.
    """
    kinds, examples, spoken = Counter[str](), dict[str, Path](), set[str]()
    stems = {os.path.splitext(path)[0] for path in used}  # noqa: PTH122 (of millions)
    for path in files_below(folder, outside_links=outside_links):
        stem, suffix = os.path.splitext(path)  # noqa: PTH122
        if str(path) in used or stem in stems:
            continue
        if not path.exists():
            kind = BROKEN
        elif suffix.lower() in AUDIO_SUFFIXES:
            kind = RECORDING
        elif suffix.lower() == ".txt":
            kind = TEXT_ALONE
        else:
            kind = suffix or "files without a suffix"
            if os.path.isfile(f"{stem}.txt"):  # noqa: PTH113
                spoken.add(kind)
        kinds[kind] += 1
        examples.setdefault(kind, path)
    lines = []
    for kind, count in kinds.most_common(KINDS_SHOWN):
        remedy = ""
        if kind in spoken:
            known = " ".join(AUDIO_SUFFIXES)
            remedy = f"; with a .txt beside it, but no recording's suffix (known: {known})"
        lines.append(f"not used: {kind} ({count:,}), such as {examples[kind]}{remedy}")
    rest = kinds.total() - sum(count for _, count in kinds.most_common(KINDS_SHOWN))
    return lines + ([f"not used: files of other kinds ({rest:,})"] if rest else [])
