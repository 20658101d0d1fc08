"""STM and CTM files that list recordings lying elsewhere, as TED-LIUM has them."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from pipeline.foundation.errors import Damaged
from pipeline.shards.layouts.layout import Layout, Request, recordings_by_stem, split_folders
from pipeline.shards.recordings import Entry, key_of_path
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.timed import Notes, entries_of
from pipeline.shards.transcripts.formats import read_times
from pipeline.shards.transcripts.nist import Listed, listed_ctm, listed_stm
from pipeline.shards.transcripts.segment import Segment, utterances

LISTINGS: Mapping[str, Callable[[str], Iterator[Listed]]] = {
    ".stm": listed_stm,
    ".ctm": listed_ctm,
}


def is_at(source: Path) -> bool:
    """Whether a source is such a file, or a folder with `stm` beside the audio, or splits of it."""
    if source.is_file():
        return source.suffix.lower() in LISTINGS
    return source.is_dir() and (
        _has_stm(source) or any(_has_stm(path) for path in source.iterdir() if path.is_dir())
    )


def read(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:
    """The segments of all listings. A recording is found by its name, in any folder of the source.

    Raises:
        SpeechkdError: a listing is broken.
    """
    if request.source.is_file():
        yield from _listed([request.source], request.source.parent, request, notes)
        return
    for folder in split_folders(request.source, request.split, _has_stm):
        listings = sorted((folder / "stm").glob("*.stm"))
        yield from _listed(listings, folder, request, notes)


def _listed(
    listings: list[Path], folder: Path, request: Request, notes: Notes
) -> Iterator[Entry | Refusal]:
    audio = request.audio_folder or folder
    recordings = recordings_by_stem(audio, outside_links=request.outside_links)
    for listing in listings:
        segments: dict[str, list[Segment]] = {}
        try:
            for name, segment in LISTINGS[listing.suffix.lower()](read_times(listing)):
                segments.setdefault(name, []).append(segment)
        except ValueError as error:
            raise Damaged(f"{listing}: {error}.") from None
        is_words = listing.suffix.lower() == ".ctm"
        yield from chain.from_iterable(
            _of(name, found, is_words, recordings.get(name, []), listing, audio, request, notes)
            for name, found in segments.items()
        )


def _of(
    name: str,
    segments: list[Segment],
    is_words: bool,
    paths: list[Path],
    listing: Path,
    audio: Path,
    request: Request,
    notes: Notes,
) -> Iterator[Entry | Refusal]:
    if len(paths) != 1:
        detail = (
            f"no recording {name!r} below {audio}; name its folder with --audio-folder"
            if not paths
            else f"{len(paths)} recordings are called {name!r}: {paths[0]}, {paths[1]}"
        )
        yield Refusal(Reason.MISSING_AUDIO, detail, name, where=str(listing))
        return
    key = key_of_path(paths[0].relative_to(audio).as_posix())
    spoken = utterances(segments) if is_words else iter(segments)
    yield from entries_of(key, paths[0], spoken, str(listing), request.cutting, notes)


def _has_stm(folder: Path) -> bool:
    return (folder / "stm").is_dir() and any((folder / "stm").glob("*.stm"))


LISTED = Layout("a listing of segments (STM or CTM) of recordings elsewhere", is_at, read)
