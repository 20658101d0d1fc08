"""Tar shards → padded batches of clips, read and decoded in worker processes.

What is computed on a CPU without a large model may be computed there too (`then`).

Shapes: B clips, S samples.

Decoding is done in processes, because libsndfile's reads of bytes in memory hold Python's lock.
A batch holds clips of one shard only, and the first batch of a shard begins with its first clip.
So the vectors of a shard do not depend on the number of workers, on other shards, or on where an
earlier run was interrupted. Memory is bounded, because a worker has only a few batches ready.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pipeline.foundation.errors import KEPT, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.storage import open_stream
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.foundation.workers import begin_worker
from pipeline.shards.manifest import Shard
from pipeline.shards.reading import Clip, TarEnd, read_shard
from pipeline.shards.refusals import Refusal
from pipeline.shards.remarks import Remarked

BATCHES_AHEAD = 2  # per worker
NO_WAVE = np.empty(0, np.float32)
Batch = TypeVar("Batch")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (Linux passes tensors between processes through it)


@dataclass(frozen=True)
class Work:
    """One shard to read."""

    index: int
    """Its number in the manifest."""
    shard: Shard
    """The manifest's line."""
    where: str
    """Its path or URL."""
    channel: int | None = None
    """The one channel to take of each clip, from 0; None for the mean of all."""


@dataclass
class WaveBatch:
    """Clips of one shard, in its order."""

    index: int
    """Number of the shard."""
    positions: list[int]
    waves_BS: torch.Tensor
    """float32, with zeros after each clip's end; S is the longest clip's length."""
    lengths_B: torch.Tensor
    """Samples of each clip."""
    clips: list[Clip] = field(default_factory=list)
    """What else is known of each clip; its own wave is empty."""

    @property
    def audio_seconds(self) -> Seconds:
        """Seconds of all clips."""
        return int(self.lengths_B.sum()) / SAMPLE_RATE_HZ

    def pin_memory(self) -> "WaveBatch":
        """Move the waves to page-locked memory, from which a GPU copies without waiting."""
        self.waves_BS = self.waves_BS.pin_memory()
        return self


@dataclass
class ShardEnd:
    """The end of a shard: what the cache keeps beside its vectors, or why it cannot be used."""

    index: int
    samples: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    input_sha256: str = ""
    input_bytes: int = 0
    read_seconds: float = 0.0
    """Time that the worker spent on reading and decoding."""
    error: str = ""
    remarks: dict[str, Remarked] = field(default_factory=dict)
    """Clips whose sound is odd, by what is odd."""


def as_it_is(batch: WaveBatch) -> WaveBatch:
    """The batch itself, for a reader of which nothing more is asked."""
    return batch


class ShardBatches(IterableDataset[Batch | ShardEnd], Generic[Batch]):
    """Batches of each shard in turn, each shard followed by its `ShardEnd`.

    Worker w of W reads shards w, w + W, w + 2 W, …
    """

    def __init__(
        self, work: Sequence[Work], batch_size: int, then: Callable[[WaveBatch], Batch]
    ) -> None:
        self.work, self.batch_size, self.then = work, batch_size, then

    def __iter__(self) -> Iterator[Batch | ShardEnd]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for item in self.work[first::step]:
            for batch in self._read(item):
                yield batch if isinstance(batch, ShardEnd) else self.then(batch)

    def _read(self, item: Work) -> Iterator[WaveBatch | ShardEnd]:
        end = ShardEnd(item.index)
        clips: list[Clip] = []
        mark = time.perf_counter()
        try:
            with open_stream(item.where) as file:
                for outcome in read_shard(file, item.shard, item.where, item.channel):
                    match outcome:
                        case Clip():
                            clips.append(outcome)
                            end.samples.append(outcome.record())
                            for remark in outcome.remarks:
                                end.remarks.setdefault(remark, Remarked()).add(1, [outcome.key])
                        case Refusal():
                            end.refused.append(outcome)
                        case TarEnd():
                            end.input_sha256, end.input_bytes = outcome.sha256, outcome.bytes
                    if len(clips) == self.batch_size:
                        batch, clips = _stack(item.index, clips), []
                        end.read_seconds += time.perf_counter() - mark
                        yield batch
                        mark = time.perf_counter()
        except SpeechkdError as error:
            yield ShardEnd(item.index, error=str(error))
            return
        end.read_seconds += time.perf_counter() - mark
        if clips:
            yield _stack(item.index, clips)
        yield end


def load(
    work: Sequence[Work],
    batch_size: int,
    workers: int,
    *,
    pin: bool,
    then: Callable[[WaveBatch], Batch] = as_it_is,  # type: ignore[assignment]
    imports: Sequence[str] = (),
) -> Generator[Batch | ShardEnd, None, None]:
    """Read shards in `workers` processes (0: in this one) and yield batches as they are ready.

    Batches of one shard come in order and before its `ShardEnd`. Shards may be interleaved.

    Args:
        work: the shards.
        batch_size: clips per batch.
        workers: reading processes.
        pin: whether waves are moved to page-locked memory.
        then: what a worker does with each batch. It must be possible to send it there, and what it
            gives, back.
        imports: modules that `then` needs, so that they are imported once and not per worker.

    Raises:
        SpeechkdError: a worker died, or shared memory is too small for the batches.
    """
    workers = min(workers, len(work))
    options: dict[str, Any] = {}
    if workers:
        longest_s = max(item.shard.clip_seconds for item in work)
        _check_shared_memory(workers, batch_size, longest_s)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *imports])
        options = {
            "multiprocessing_context": context,
            "prefetch_factor": BATCHES_AHEAD,
            "worker_init_fn": _begin_worker,
            "in_order": False,
        }
    loader = DataLoader(
        ShardBatches(work, batch_size, then),
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        **options,
    )
    try:
        for item in loader:
            yield item
            # torch keeps a little of each tensor that came through shared memory, up to 128 or
            # more. It lies among the activations and would keep their memory from being reused.
            shared_cache.free_dead_references()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):  # torch has no class for it, only these words
            raise
        raise SpeechkdError(
            f"a reading process ended without a message ({error}). Either memory ran out, or some "
            f"audio crashes the decoder; --workers 0 shows which. {KEPT}"
        ) from error


def _stack(index: int, clips: list[Clip]) -> WaveBatch:
    lengths_B = torch.tensor([len(clip.wave_S) for clip in clips])
    waves_BS = torch.zeros(len(clips), int(lengths_B.max()))
    for row_S, clip in zip(waves_BS, clips, strict=True):
        row_S[: len(clip.wave_S)] = torch.from_numpy(clip.wave_S)
    told = [replace(clip, wave_S=NO_WAVE) for clip in clips]
    return WaveBatch(index, [clip.position for clip in clips], waves_BS, lengths_B, told)


def _begin_worker(worker: int) -> None:  # noqa: ARG001
    begin_worker()
    torch.set_num_threads(1)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nothing in this worker handled, unless the main process hung up.

    Batches are handed over through a connection that a thread of the library serves. If the main
    process is stopped at that moment, the connection breaks, but the main process has said so.
    """
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _check_shared_memory(workers: int, batch_size: int, longest_s: Seconds) -> None:
    if not SHARED_MEMORY.is_dir():
        return
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    clip_bytes = longest_s * SAMPLE_RATE_HZ * 4
    needed = workers * (BATCHES_AHEAD + 1) * batch_size * clip_bytes
    if needed > free:
        raise SpeechkdError(
            f"{SHARED_MEMORY} has {free / 2**20:,.0f} MiB free; {counted(workers, 'worker')} with "
            "batches of "
            f"{batch_size} need {needed / 2**20:,.0f} MiB there. In a container start it with "
            "--shm-size=8g (or --ipc=host), or lower --workers or --batch-size; --workers 0 "
            "needs none."
        )
