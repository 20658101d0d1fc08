"""What `speechkd shard` reads, and what it writes."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.settings import Settings, setting
from pipeline.foundation.units import CLIP_SECONDS, MOST_CLIP_SECONDS
from pipeline.shards.corpora import Layout

COLUMNS = "Columns of a table (none: not one that is guessed)"


@dataclass(frozen=True, kw_only=True)
class ShardSettings(Settings):
    """What `speechkd shard` reads, and what it writes."""

    source: str = setting(
        help="A table of paths and texts (.csv, .tsv, .jsonl), a folder, or Parquet (also a URL).",
        argument=True,
    )
    out: Path = setting(help="Folder for the tars and manifest.jsonl.")
    layout: Layout = setting("auto", help="Layout of the source; auto detects it and says so.")
    audio_folder: Path | None = setting(
        None, help="Where relative paths in a table start; by default the table's own folder."
    )
    follow_links: bool = setting(
        False, help="Follow links to folders outside of SOURCE; otherwise they are refused by name."
    )
    samples_per_shard: int = setting(
        1000, help="Clips per tar.", unit="clips", minimum=1, maximum=1_000_000
    )
    clip_seconds: int = setting(
        CLIP_SECONDS,
        help="Longest clip; what is longer is refused. Whisper hears at most 30 s.",
        unit="s",
        minimum=1,
        maximum=MOST_CLIP_SECONDS,
        origin="paper",
    )
    max_refused: float = setting(
        0.1,
        help="The command gives up when more than this share of the samples is refused.",
        minimum=0,
        maximum=1,
    )
    channel: int = setting(
        0,
        help="Of recordings with several channels, the one to take, from 1; 0: the mean of all. A "
        "file of times that names channels goes before.",
        minimum=0,
    )
    workers: int = setting(
        -1,
        help="Processes that decode and encode; 0 does both in this one, -1: one per core.",
        minimum=-1,
        formerly="--jobs",
    )
    dry_run: bool = setting(
        False, help="Read tables and audio headers, print what would be written, and write nothing."
    )
    join: float | None = setting(
        None,
        help="Of a recording with times: put neighbouring segments of one speaker together, up to "
        "--clip-seconds, if at most this much silence lies between.",
        unit="s",
        minimum=0,
    )
    tier: list[str] = setting(
        [], help="Tier of a TextGrid or of ELAN that holds speech; may be repeated. Or: all."
    )
    split: str = setting("", help="Split of a corpus that has several, such as train. Or: all.")
    recording_pattern: str = setting(
        "",
        help="Regular expression whose first group finds the recording in a key, where no column "
        "tells it.",
    )
    array_task: str = setting(
        "",
        help="Of a corpus in Parquet write only share I of N: 0/8. By default the scheduler's own "
        "variables are read.",
        operational=True,
    )
    path_column: str = setting("", help="Column of the recording's path.", panel=COLUMNS)
    text_column: str = setting("", help="Column of the transcript.", panel=COLUMNS)
    key_column: str = setting(
        "", help="Column of ids, each unique; by default the path is the id.", panel=COLUMNS
    )
    speaker_column: str = setting("", help="Column of the speaker.", panel=COLUMNS)
    recording_column: str = setting("", help="Column of what a clip was cut from.", panel=COLUMNS)
    start_column: str = setting(
        "",
        help="Column of a segment's start; none: each row is a whole recording, or begins with it.",
        panel=COLUMNS,
    )
    end_column: str = setting(
        "",
        help="Column of a segment's end; none: segments end where their recordings do.",
        panel=COLUMNS,
    )
    duration_column: str = setting(
        "", help="Column of a segment's length, if starts have no ends.", panel=COLUMNS
    )
    channel_column: str = setting(
        "",
        help="Column of the one channel to take of each row: 1, 2, … or A, B, …; where it is empty "
        "--channel counts. It is never guessed.",
        panel=COLUMNS,
    )
