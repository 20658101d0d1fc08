"""Turn CMU-MOSEI, in any of its layouts, into one tidy table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting
from pipeline.tasks.mosei.names import SCALE_HELP, parse_scale


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(Settings):
    """Settings of `speechkd mosei convert`."""

    data: Path = setting(
        help=(
            "CMU_MOSEI_Labels.csd, MMSA's label.csv or pickle, MulT's pickle, a tidy table, or a "
            "folder that holds one of these."
        ),
        argument=True,
    )
    out: Path = setting(help="The tidy table to write: .csv, .tsv, .jsonl or .parquet.")
    text: Path | None = setting(
        None,
        help=(
            "Source of the texts, for label files that have none: CMU_MOSEI_TimestampedWords.csd, "
            "the folder of raw transcripts, or a table with times; by default what lies beside a "
            ".csd."
        ),
    )
    folds: Path | None = setting(
        None,
        help=(
            "List of which video is in which split, in place of the file's own: a table "
            "(video_id, split), a JSON object of lists, or the SDK's cmu_mosei_std_folds.py."
        ),
    )
    audio: Path | None = setting(
        None,
        help="Folder of the recordings, at any depth: VIDEO.wav, VIDEO/CLIP.mp4 or VIDEO_CLIP.wav. "
        "The table then has key and path, for speechkd shard, and no clip without a recording.",
    )
    allow_pickle: bool = setting(False, help="Accept pickles; they are read as data only.")
    label_scale: str = setting("", help=SCALE_HELP)

    def check(self) -> None:
        """Refuse a scale that is none."""
        parse_scale(self.label_scale)


def run(settings: ConvertSettings) -> None:
    """Turn CMU-MOSEI into one tidy table and say what was clamped, left out or not matched.

    The table has one clip per row: video_id, clip_id, split, text, sentiment, six emotions, and
    times in seconds. A field is empty if its value is not known. With --audio it has the key and
    the path of each clip, and clips without a recording are counted and left out.

    Example: speechkd mosei convert CMU_MOSEI_Labels.csd --out mosei.csv
    """
    from pipeline.foundation.progress import counted
    from pipeline.tasks.mosei.questions import TASKS, class_counts
    from pipeline.tasks.mosei.reading import read_mosei
    from pipeline.tasks.mosei.recordings import Heard, placed
    from pipeline.tasks.mosei.tables import write_table

    corpus = read_mosei(
        settings.data,
        text=settings.text,
        folds=settings.folds,
        allow_pickle=settings.allow_pickle,
        scale=parse_scale(settings.label_scale),
    )
    heard: Sequence[Heard] = ()
    notes = dict(corpus.notes)
    if settings.audio:
        audible = placed(corpus.clips, settings.audio)
        notes |= {
            "clips without a recording, left out": audible.without_recording,
            "clips of a recording without their times, left out": audible.without_times,
            "recordings that no clip is heard in": audible.unused,
        }
        if not audible.clips:
            counts = "; ".join(f"{what}: {count:,}" for what, count in notes.items() if count)
            raise SpeechkdError(
                f"{settings.audio}: no clip of {corpus.source} is there ({counts})."
            )
        corpus, heard = replace(corpus, clips=tuple(audible.clips)), audible.stretches
    write_table(corpus, settings.out, heard)
    print(f"{settings.out}: {counted(len(corpus.clips), 'clip')} of {corpus.source}")
    for split, count in corpus.counts().items():
        clips = corpus.of("" if split == "none" else split)
        videos = len({clip.video_id for clip in clips})
        classes = class_counts(clips, TASKS["sentiment7"])
        print(
            f"  {split}: {counted(count, 'clip')} of {counted(videos, 'video')}; sentiment -3 to "
            f"+3: {classes}"
        )
    for what, count in notes.items():
        if count:
            print(f"  {what}: {count:,}")


COMMANDS = {"mosei convert": (ConvertSettings, run)}
