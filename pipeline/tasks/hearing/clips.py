"""The clips of a cache, without their rows: what they say, and who said it in which recording."""

from dataclasses import dataclass

from pipeline.cache.sequences import finished
from pipeline.cache.store import TeacherCache
from pipeline.foundation.progress import Meter
from pipeline.foundation.workers import ahead

READ_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of a cache.

    Attributes:
        key: of the sample.
        text: its transcript.
        speaker: None if unknown.
        recording: None if unknown.
        shard: the shard that it is in.
    """

    key: str
    text: str
    speaker: str | None
    recording: str | None
    shard: int

    @property
    def said(self) -> tuple[str, str]:
        """Key and text, which two caches of the same recordings have in common."""
        return self.key, self.text


def read_clips(cache: TeacherCache) -> list[Clip]:
    """The clips of a finished cache, in the order of its samples.

    Raises:
        NotThere: it is not finished.
        Damaged: the samples of a shard are.
    """
    clips: list[Clip] = []
    shards = list(finished(cache).receipts())
    with Meter("reading texts", cache.written, "clips") as meter:
        for shard, samples in zip(
            shards, ahead(cache.shard_samples, shards, READ_AHEAD), strict=True
        ):
            clips += [
                Clip(s["key"], s["text"], s["speaker"], s["recording"], shard) for s in samples
            ]
            meter.advance(len(samples))
    return clips
