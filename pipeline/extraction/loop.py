"""Shards → rows in the cache, on one device or several: the loop of stage one, for every kind.

Worker processes read, this process encodes, one thread writes, and the three overlap. What is
computed on a CPU without a large model is encoded by the workers (`Encodes.beside_reading`).
Progress is a stream of events, so that only the caller talks to the user.
"""

import multiprocessing
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import WRITE_ATTEMPTS
from pipeline.cache.writing import is_sound
from pipeline.cluster.shares import ArrayTask, share
from pipeline.extraction.batches import ShardEnd, WaveBatch, Work, as_it_is, load
from pipeline.extraction.in_flight import Copy, InFlight
from pipeline.extraction.output import RowBatch, ShardOutput, torch_dtype
from pipeline.extraction.rows import EncodesBatches, Rows
from pipeline.extraction.text_batches import TextBatch
from pipeline.foundation.devices import make_current, one_thread
from pipeline.foundation.errors import KEPT, SpeechkdError, first_line, is_out_of_memory
from pipeline.foundation.progress import counted
from pipeline.foundation.units import Seconds
from pipeline.foundation.workers import begin_worker
from pipeline.shards.refusals import Refusal
from pipeline.shards.remarks import Remarked

WRITES_WAITING = 4  # with more, encoding waits, so that memory is bounded
POLL_SECONDS: Seconds = 1.0
FILTERS = "librosa.filters"
"""Takes a second to import; the features that are computed beside reading need it."""

Batches = Generator[WaveBatch | TextBatch | RowBatch | ShardEnd, None, None]


@dataclass(frozen=True)
class Encoded:
    """A batch has been encoded. Its times are those of the main loop."""

    clips: int
    audio_seconds: Seconds
    wait_seconds: Seconds
    """Time spent waiting for the batch: the part of reading that does not overlap."""
    encode_seconds: Seconds


@dataclass(frozen=True)
class Finished:
    """A shard is in the cache."""

    index: int
    written: int
    """Clips."""
    refused: list[Refusal]
    undecoded: int
    """Refused samples that never reached the encoder."""
    read_seconds: Seconds
    """Time that a worker spent on reading and decoding."""
    write_seconds: Seconds
    """Time that the writer spent, all of it while the encoder worked."""
    remarks: Mapping[str, Remarked] = field(default_factory=dict)
    """Clips whose sound is odd, by what is odd."""


@dataclass(frozen=True)
class Failed:
    """A shard cannot be used and has no receipt."""

    index: int
    message: str


Event = Encoded | Finished | Failed


@dataclass(frozen=True)
class _Torn:
    """A shard whose rows are not those that its receipt vouches for: another task writes it too."""

    work: Work
    seconds: Seconds
    """Time from its first rows to its receipt."""


def extract(
    work: Sequence[Work],
    encoder: EncodesBatches[Any],
    cache: TeacherCache,
    versions: Mapping[str, str],
    *,
    batch_size: int,
    workers: int,
    read: Callable[..., Batches] | None = None,
) -> Generator[Event, None, None]:
    """Encode shards on one device and write each to the cache as its rows come.

    The device becomes the current one of this thread, and of those that pin waves and write:
    whatever they do of themselves would otherwise open a context on the first GPU.

    Args:
        work: the shards.
        encoder: what makes rows of their batches.
        cache: where the rows go.
        versions: versions of libraries, for the receipts.
        batch_size: clips per batch.
        workers: reading processes.
        read: gives the batches of each shard and its end, such as `Transcripts`, which reads
            another cache; None for `load`, which reads tars. It must be possible to send it to
            another process.

    Raises:
        SpeechkdError: a worker died, the device's memory is too small, or the cache cannot be
            written. Finished shards stay.
    """
    make_current(encoder.device)
    for _ in range(WRITE_ATTEMPTS):
        torn = []
        for event in _once(work, encoder, cache, versions, batch_size, workers, read):
            if isinstance(event, _Torn):
                torn.append(event)
            else:
                yield event
        if not torn:
            return
        # The other task may be about to finish. If it has, what it wrote is as good.
        time.sleep(max(shard.seconds for shard in torn))
        receipts = cache.receipts([shard.work.index for shard in torn])
        done = {index for index, receipt in receipts.items() if is_sound(cache, receipt)}
        for index in done:
            refused = [Refusal.from_record(r, "position") for r in receipts[index]["refused"]]
            yield Finished(index, receipts[index]["written"], refused, len(refused), 0.0, 0.0)
        work = [shard.work for shard in torn if shard.work.index not in done]
        for array in cache.arrays:
            cache.stored_objects(array, again=True)
        if not work:
            return
    raise SpeechkdError(
        f"{cache.location}: shard {work[0].index} does not read back as it was written, after "
        f"{WRITE_ATTEMPTS} attempts. Is the storage sound?"
    )


def _once(
    work: Sequence[Work],
    encoder: EncodesBatches[Any],
    cache: TeacherCache,
    versions: Mapping[str, str],
    batch_size: int,
    workers: int,
    read: Callable[..., Batches] | None,
) -> Generator[Event | _Torn, None, None]:
    """Encode and write each shard once."""
    outputs: dict[int, ShardOutput] = {}
    work_of = {item.index: item for item in work}
    writing: deque[Future[Finished | _Torn | None]] = deque()
    in_flight = InFlight(encoder.device)
    encode = _Encoding(encoder, torch_dtype(cache))
    beside = encoder.beside_reading
    imports = (type(encoder).__module__, FILTERS) if beside else ()
    batches = (read or partial(load, imports=imports))(
        work,
        batch_size,
        workers,
        pin=encoder.device.type == "cuda",
        then=encode if beside else as_it_is,
    )
    with ThreadPoolExecutor(1, "writer", make_current, (encoder.device,)) as writer:
        mark = time.perf_counter()
        for item in batches:
            ready = time.perf_counter()
            match item:
                case WaveBatch() | TextBatch() | RowBatch():
                    batch = item if isinstance(item, RowBatch) else encode(item)
                    if item.index not in outputs:
                        outputs[item.index] = ShardOutput(cache, item.index)
                    output = outputs[item.index]
                    copy = in_flight.copy_of(batch.rows.rows_NE)
                    batch.rows.rows_NE = copy.host_NE  # so that the device's memory is free again
                    writing.append(writer.submit(_put, output, batch, copy))
                    in_flight.mark()
                    yield Encoded(
                        clips=len(batch.positions),
                        audio_seconds=batch.audio_seconds,
                        wait_seconds=ready - mark,
                        encode_seconds=time.perf_counter() - ready,
                    )
                case ShardEnd(error="", index=index):
                    output = outputs.pop(index) if index in outputs else ShardOutput(cache, index)
                    writing.append(writer.submit(_finish, output, item, work_of[index], versions))
                case ShardEnd(index=index, error=message):
                    outputs.pop(index, None)
                    yield Failed(index, message)
            while writing and (writing[0].done() or len(writing) > WRITES_WAITING):
                if event := writing.popleft().result():
                    yield event
            mark = time.perf_counter()
        while writing:
            if event := writing.popleft().result():
                yield event


def extract_on(
    devices: Sequence[torch.device],
    work: Sequence[Work],
    encoder_on: Callable[[torch.device], EncodesBatches[Any]],
    cache_location: str,
    versions: Mapping[str, str],
    *,
    batch_size: int,
    workers: int,
    read: Callable[..., Batches] | None = None,
) -> Generator[Event, None, None]:
    """Encode shards on several devices of this machine, one process each.

    Shards are divided by bytes; a device beyond the number of shards stays idle.

    Args:
        devices: the devices, one process each; a device may be named twice.
        work: the shards.
        encoder_on: loads the encoder onto a device; must be importable from another process.
        cache_location: the cache, which exists already.
        versions: versions of libraries, for the receipts.
        batch_size: clips per batch.
        workers: reading processes per device.
        read: as of `extract`.

    Raises:
        SpeechkdError: a process failed. The shards that the others were working on are dropped.
    """
    context = multiprocessing.get_context("spawn")
    events: Any = context.Queue()
    processes = []
    for number, device in enumerate(devices):
        sizes = [item.shard.bytes for item in work]
        mine = [work[i] for i in share(sizes, ArrayTask(number, len(devices), "--devices"))]
        if mine:
            threads = max(1, torch.get_num_threads() // len(devices))
            arguments = (events, device, mine, encoder_on, cache_location, dict(versions))
            process = context.Process(
                target=_on_device,
                args=(*arguments, batch_size, workers, threads, read),
                name=str(device),
            )
            process.start()
            processes.append(process)
    running = len(processes)
    try:
        while running:
            try:
                event = events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                _check_alive(processes)
                continue
            match event:
                case None:
                    running -= 1
                case str() as message:
                    raise SpeechkdError(message)
                case _:
                    yield event
    finally:
        for process in processes:
            if running:
                process.terminate()
            process.join()


@dataclass(frozen=True)
class _Encoding:
    """Waves → rows in the dtype that leaves the device, here or in a reading process."""

    encoder: EncodesBatches[Any]
    dtype: torch.dtype

    def __call__(self, batch: WaveBatch | TextBatch) -> RowBatch:
        # as a reading process computes, so that rows have the same last bits
        with one_thread() if self.encoder.beside_reading else nullcontext():
            rows = self._rows(batch)
        rows.rows_NE = rows.rows_NE.to(self.dtype)
        return RowBatch(batch.index, batch.positions, rows, batch.audio_seconds)

    def _rows(self, batch: WaveBatch | TextBatch) -> Rows:
        try:
            return self.encoder.rows_of(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise SpeechkdError(
                f"out of memory on {self.encoder.device} with batches of "
                f"{counted(len(batch.positions), 'clip')} ({first_line(error)}). Lower "
                f"--batch-size. {KEPT}"
            ) from None


def _put(output: ShardOutput, batch: RowBatch, copy: Copy) -> None:
    copy.wait()
    output.put(batch)


def _finish(
    output: ShardOutput, end: ShardEnd, work: Work, versions: Mapping[str, str]
) -> Finished | _Torn:
    written = output.finish(end, versions)
    if not written.sound:
        return _Torn(work, time.perf_counter() - output.begun)
    return Finished(
        index=end.index,
        written=written.clips,
        refused=written.refused,
        undecoded=len(end.refused),
        read_seconds=end.read_seconds,
        write_seconds=output.write_seconds,
        remarks=end.remarks,
    )


def _on_device(
    events: Any,
    device: torch.device,
    work: Sequence[Work],
    encoder_on: Callable[[torch.device], EncodesBatches[Any]],
    cache_location: str,
    versions: Mapping[str, str],
    batch_size: int,
    workers: int,
    threads: int,
    read: Callable[..., Batches] | None,
) -> None:
    """Body of one device's process: it sends events to the parent, then None; a failure as text."""
    begin_worker()
    torch.set_num_threads(threads)
    try:
        encoder = encoder_on(device)
        cache = TeacherCache.open(cache_location, kinds=KINDS)
        for event in extract(
            work, encoder, cache, versions, batch_size=batch_size, workers=workers, read=read
        ):
            events.put(event)
        events.put(None)
    except SpeechkdError as error:
        events.put(f"{device}: {error}")


def _check_alive(processes: Sequence[Any]) -> None:
    dead = [process for process in processes if process.exitcode not in (None, 0)]
    if dead:
        raise SpeechkdError(
            f"the process of {dead[0].name} ended with status {dead[0].exitcode}; its own message "
            f"is above. {KEPT}"
        )
