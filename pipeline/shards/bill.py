"""What a corpus in parts will take on the disk, judged by a few of its clips."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.storage import local_path
from pipeline.foundation.units import Seconds
from pipeline.shards.parts import Make, Part, Plan, entries_of
from pipeline.shards.parts_folder import example_of
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.remarks import EXAMPLES

TAR_BYTES_PER_SAMPLE = 3 * 512 + 512  # two headers, and each member filled up to 512


@dataclass(frozen=True)
class Bill:
    """What a corpus would take, judged by a few of its clips."""

    clips: int
    """Clips that were tried."""
    seconds: Seconds
    tar_bytes: int
    refused: Mapping[str, int]
    """Refusals among the clips that were tried, by reason."""
    examples: Mapping[str, Sequence[str]]
    """At most three refusals by reason, in words."""

    def lines(self, parts: Sequence[Part], out: Path) -> list[str]:
        """The bill, for the user.

        Raises:
            SpeechkdError: the disk has no room for the tars.
        """
        clips = sum(part.rows for part in parts)
        read = sum(part.audio_bytes for part in parts)
        remote = any(local_path(part.file.location) is None for part in parts)
        free = shutil.disk_usage(_existing(out)).free
        lines = [
            f"would write about {counted(clips, 'clip')}, {self.seconds / 3600:,.2f} h, "
            f"{self.tar_bytes / 1e9:,.2f} GB of tars to {out} "
            f"(estimated from {counted(self.clips, 'clip')}; {free / 1e9:,.1f} GB are free there)",
            f"would read {read / 1e9:,.2f} GB of audio in {counted(len(parts), 'file')}"
            + (" over the network, and keep none of it" if remote else "; no copy of it is made"),
        ]
        held = max((part.held_bytes for part in parts), default=0)
        if held > TOLD_FROM_BYTES:
            lines.append(
                f"each process that reads a file holds up to about {held / 1e6:,.0f} MB of it at "
                "once; fewer --workers need less"
            )
        repeated = sum(len(part.repeated) for part in parts)
        if repeated:
            lines.append(
                f"would refuse: {repeated:,} for {Reason.DUPLICATE_KEY}; name a column of ids with "
                "--key-column"
            )
        for reason, count in self.refused.items():
            lines.append(
                f"of the clips tried, would refuse: {count:,} for {reason}, such as "
                + "; ".join(self.examples[reason])
            )
        if self.tar_bytes > free:
            raise SpeechkdError(
                f"{lines[0]}. That is more than there is room for: name another --out."
            )
        return lines


TOLD_FROM_BYTES = 500_000_000
TRIED_PARTS = 8
TRIED_CLIPS = 8  # per part


def clips_tried(parts: Sequence[Part]) -> int:
    """Number of clips that `bill` will try."""
    return sum(min(part.rows, TRIED_CLIPS) for part in _tried(parts))


def _tried(parts: Sequence[Part]) -> Sequence[Part]:
    return parts[:: max(1, len(parts) // TRIED_PARTS)][:TRIED_PARTS]


def bill(parts: Sequence[Part], plan: Plan, advance: Callable[[int], None]) -> Bill:
    """Estimate length and size of the tars from the first clips of a few parts.

    The audio of all parts is known by its size, so the estimate is a ratio: bytes of tars, and
    seconds, per byte of audio.
    """
    read = written = tried = 0
    seconds = 0.0
    refused: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    make = Make(plan.limit_s, plan.channel)
    for part in _tried(parts):
        for clip in entries_of(part, plan, 0, TRIED_CLIPS):
            result = make(clip)
            tried += 1
            if isinstance(result, Refusal):
                refused[result.reason] += 1
                if len(named := examples.setdefault(result.reason, [])) < EXAMPLES:
                    named.append(example_of(result))
            else:
                written += len(result.flac) + len(result.json) + TAR_BYTES_PER_SAMPLE
                seconds += result.duration_s
            if not isinstance(clip, Refusal):
                read += len(clip[1] or b"")
            advance(1)
    rows = sum(part.rows for part in parts)
    whole = sum(part.audio_bytes for part in parts)
    scale = whole / read if read else rows / max(tried, 1)
    return Bill(tried, seconds * scale, round(written * scale), refused, examples)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
