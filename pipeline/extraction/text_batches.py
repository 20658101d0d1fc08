"""A cache's transcripts → batches of texts, shard by shard, as `batches` gives waves."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cache.identity import KINDS
from pipeline.cache.receipts import refused_in
from pipeline.cache.store import TeacherCache
from pipeline.extraction.batches import ShardEnd, Work
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import Seconds
from pipeline.foundation.workers import ahead

TOLD = ("key", "text", "duration_s", "speaker", "recording")
SHARDS_AHEAD = 4  # in object storage reading them is mostly waiting


@dataclass
class TextBatch:
    """Texts of one shard, in its order."""

    index: int
    """Number of the shard."""
    positions: list[int]
    texts: list[str]
    audio_seconds: Seconds
    """Of the clips whose texts these are."""


@dataclass(frozen=True)
class Transcripts:
    """Reads the texts of a cache's clips. Can be sent to other processes.

    Attributes:
        location: of the cache.
    """

    location: str

    def __call__(
        self,
        work: Sequence[Work],
        batch_size: int,
        workers: int,  # noqa: ARG002 (texts are read in no time)
        **_: Any,
    ) -> Generator[TextBatch | ShardEnd, None, None]:
        """Batches of each shard in turn, each shard followed by its end.

        A sample that the cache refused is refused again, with the same words.

        Raises:
            SpeechkdError: the cache has not finished one of the shards, or it is damaged.
        """
        cache = TeacherCache.open(self.location, kinds=KINDS)
        indices = [item.index for item in work]
        receipts = cache.receipts(indices)
        for index in indices:
            if index not in receipts:
                raise SpeechkdError(
                    f"{cache.location}: shard {index} is not done any more. Run `{cache.maker}` "
                    "again; it computes only what is missing."
                )
        samples_of = ahead(cache.shard_samples, indices, SHARDS_AHEAD)
        for index, samples in zip(indices, samples_of, strict=True):
            receipt = receipts[index]
            refused = refused_in(receipt)
            without = {refusal.position for refusal in refused}
            positions = [p for p in range(receipt["samples"]) if p not in without]
            told = [
                {"position": position, **{name: sample[name] for name in TOLD}}
                for position, sample in zip(positions, samples, strict=True)
            ]
            for first in range(0, len(told), batch_size):
                part = told[first : first + batch_size]
                yield TextBatch(
                    index,
                    [sample["position"] for sample in part],
                    [sample["text"] for sample in part],
                    sum(sample["duration_s"] for sample in part),
                )
            yield ShardEnd(index, told, refused, receipt["input_sha256"], receipt["input_bytes"])
