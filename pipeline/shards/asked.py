"""What a user asks of a corpus, and whether the corpus has a use for it.

A flag that changes nothing is refused, because whoever gives it believes that it does. A layout
takes some flags. Some of those count only for corpora of a certain kind, which shows when the
corpus is read.
"""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import Seconds
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.recordings import Entry

JOIN, TIER, SPLIT, CHANNEL = "--join", "--tier", "--split", "--channel"
AUDIO_FOLDER, FOLLOW_LINKS = "--audio-folder", "--follow-links"
RECORDING_PATTERN, ARRAY_TASK = "--recording-pattern", "--array-task"
COLUMNS = tuple(f"--{name}-column" for name in RecordingColumns.__dataclass_fields__)
CHANNEL_COLUMN = "--channel-column"
IN_PARTS = (".parquet", ".arrow")
"""Suffixes of tables that hold audio."""

TAKES: Mapping[str, tuple[str, ...]] = {
    "parquet": (
        *(column for column in COLUMNS if column != CHANNEL_COLUMN),
        *(SPLIT, RECORDING_PATTERN, ARRAY_TASK),
    ),
    "table": (*COLUMNS, AUDIO_FOLDER),
    "commonvoice": (*COLUMNS, AUDIO_FOLDER),
    "audiofolder": (*COLUMNS, SPLIT),
    "folder": (JOIN, TIER),
    "librispeech": (),
    "ljspeech": (AUDIO_FOLDER,),
    "kaldi": (JOIN, SPLIT, AUDIO_FOLDER),
    "lhotse": (JOIN, SPLIT, AUDIO_FOLDER),
    "listing": (JOIN, SPLIT, AUDIO_FOLDER),
    "libritts": (SPLIT,),
    "mls": (SPLIT,),
    "timit": (SPLIT,),
    "vctk": (),
}
"""By layout, the flags that can change something. --channel can in each, and --follow-links in each
folder."""
UNLESS = {
    TIER: "no TextGrid and no ELAN file was read",
    JOIN: "no recording has segments with times",
    AUDIO_FOLDER: "no recording lies below it",
    CHANNEL: "the source itself names the channel of every segment",
    RECORDING_PATTERN: "a column tells the recording (--recording-column none: it does not)",
}
"""Why a flag that the layout takes changes nothing in this corpus."""


def given(
    columns: RecordingColumns,
    audio_folder: Path | None,
    tiers: Iterable[str],
    join_s: Seconds | None,
    split: str,
    *,
    outside_links: bool,
) -> set[str]:
    """The flags that a user has given to a source."""
    flags = {
        AUDIO_FOLDER: audio_folder is not None,
        TIER: bool(tuple(tiers)),
        JOIN: join_s is not None,
        SPLIT: bool(split),
        FOLLOW_LINKS: outside_links,
        **{f"--{name}-column": bool(column) for name, column in vars(columns).items()},
    }
    return {flag for flag, is_given in flags.items() if is_given}


def refuse_what_it_cannot_use(flags: Set[str], source: str, layout: str) -> None:
    """Refuse flags that change nothing in a layout, whatever the corpus.

    Raises:
        SpeechkdError: there is one among `flags`.
    """
    taken = {*TAKES[layout], CHANNEL}
    is_parquet = layout == "parquet"
    is_file = source.endswith(IN_PARTS) if is_parquet else not Path(source).is_dir()
    if not is_parquet and (layout == "listing" or not is_file):
        taken.add(FOLLOW_LINKS)
    for flag in sorted(flags - taken):
        raise SpeechkdError(
            f"{source}: {flag} changes nothing in the {layout} layout; leave it out."
        )
    if is_file and SPLIT in flags:
        raise SpeechkdError(f"{source}: {SPLIT} changes nothing in a single file; leave it out.")


def refuse_what_it_did_not_use(flags: Set[str], source: str) -> None:
    """Refuse flags that have changed nothing in a corpus that has been read.

    Raises:
        SpeechkdError: there is one among `flags`.
    """
    for flag in sorted(flags):
        raise SpeechkdError(
            f"{source}: {flag} changes nothing, because {UNLESS[flag]}; leave it out."
        )


def heeded_by(entry: Entry, audio_folder: Path | None) -> set[str]:
    """The flags that have had something to say in an entry."""
    flags = set()
    if entry.channel is None:
        flags.add(CHANNEL)
    if audio_folder is not None and entry.path.is_relative_to(audio_folder):
        flags.add(AUDIO_FOLDER)
    return flags
