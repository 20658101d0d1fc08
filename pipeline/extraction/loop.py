"""Shards → vectors in the cache, on one device or several: the loop of stage one.

Worker processes read, this process encodes, one thread writes, and the three overlap. Progress is
a stream of events, so that only the caller talks to the user.

Shapes: B clips of a batch, N samples of a shard, S wave samples, E the teacher's width.
"""

import multiprocessing
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from pipeline.cache.store import ShardResult, TeacherCache
from pipeline.cluster.shares import ArrayTask, share
from pipeline.extraction.batches import ShardEnd, WaveBatch, Work, load
from pipeline.foundation.devices import make_current
from pipeline.foundation.errors import KEPT, SpeechkdError, first_line, is_out_of_memory
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.foundation.workers import begin_worker
from pipeline.shards.refusals import Reason, Refusal

SHARDS_WAITING = 2  # to be written; with more, encoding waits, so that memory is bounded
BATCHES_IN_FLIGHT = 2  # on a GPU: one is computed while the next is launched
POLL_SECONDS: Seconds = 1.0


class Encodes(Protocol):
    """What this loop needs of a teacher."""

    @property
    def d_model(self) -> int:
        """Width of the vectors."""

    @property
    def device(self) -> torch.device:
        """Device that it computes on."""

    def encode(self, waves_BS: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Waves → float32 `[B, E]`."""


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
    refused: list[Refusal]
    undecoded: int
    """Refused samples that never reached the encoder."""
    read_seconds: Seconds
    """Time that a worker spent on reading and decoding."""
    write_seconds: Seconds
    """Time that the writer spent, all of it while the encoder worked."""


@dataclass(frozen=True)
class Failed:
    """A shard cannot be used and has no receipt."""

    index: int
    message: str


Event = Encoded | Finished | Failed


@dataclass
class _Pace:
    """Keeps a few batches in flight on a GPU and waits for older ones. Does nothing on a CPU."""

    device: torch.device
    launched: "deque[torch.cuda.Event]" = field(default_factory=deque)

    def mark(self) -> None:
        if self.device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        self.launched.append(event)
        if len(self.launched) >= BATCHES_IN_FLIGHT:
            self.launched.popleft().synchronize()


def extract(
    work: Sequence[Work],
    teacher: Encodes,
    cache: TeacherCache,
    versions: Mapping[str, str],
    *,
    batch_size: int,
    workers: int,
) -> Generator[Event, None, None]:
    """Encode shards on one device and write each to the cache when it is complete.

    The device becomes the current one of this thread, and of those that pin waves and write:
    whatever they do of themselves would otherwise open a context on the first GPU.

    Raises:
        SpeechkdError: a worker died, the device's memory is too small, or the cache cannot be
            written. Finished shards stay.
    """
    vectors: dict[int, torch.Tensor] = {}
    writing: deque[Future[Finished]] = deque()
    make_current(teacher.device)
    pace = _Pace(teacher.device)
    batches = load(work, batch_size, workers, pin=teacher.device.type == "cuda")
    with ThreadPoolExecutor(1, "writer", make_current, (teacher.device,)) as writer:
        mark = time.perf_counter()
        for item in batches:
            ready = time.perf_counter()
            match item:
                case WaveBatch():
                    if item.index not in vectors:
                        vectors[item.index] = _empty(cache, item.index, teacher.device)
                    _put(vectors[item.index], item.positions, _encode(teacher, item))
                    pace.mark()
                    yield Encoded(
                        clips=len(item.positions),
                        audio_seconds=int(item.lengths_B.sum()) / SAMPLE_RATE_HZ,
                        wait_seconds=ready - mark,
                        encode_seconds=time.perf_counter() - ready,
                    )
                case ShardEnd(error="", index=index):
                    vectors_NE = vectors.pop(index, None)
                    if vectors_NE is None:
                        vectors_NE = _empty(cache, index, torch.device("cpu"))
                    writing.append(writer.submit(_write, cache, item, vectors_NE, versions))
                    while writing and (writing[0].done() or len(writing) > SHARDS_WAITING):
                        yield writing.popleft().result()
                case ShardEnd(index=index, error=message):
                    vectors.pop(index, None)
                    yield Failed(index, message)
            mark = time.perf_counter()
        while writing:
            yield writing.popleft().result()


def extract_on(
    devices: Sequence[torch.device],
    work: Sequence[Work],
    teacher_on: Callable[[torch.device], Encodes],
    cache_location: str,
    versions: Mapping[str, str],
    *,
    batch_size: int,
    workers: int,
) -> Generator[Event, None, None]:
    """Encode shards on several devices of this machine, one process each.

    Shards are divided by bytes; a device beyond the number of shards stays idle.

    Args:
        devices: the devices, one process each; a device may be named twice.
        work: the shards.
        teacher_on: loads the teacher onto a device; must be importable from another process.
        cache_location: the cache, which exists already.
        versions: versions of libraries, for the receipts.
        batch_size: clips per batch.
        workers: reading processes per device.

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
            arguments = (events, device, mine, teacher_on, cache_location, dict(versions))
            process = context.Process(
                target=_on_device, args=(*arguments, batch_size, workers, threads), name=str(device)
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


def _encode(teacher: Encodes, batch: WaveBatch) -> torch.Tensor:
    try:
        return teacher.encode(batch.waves_BS, batch.lengths_B)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise SpeechkdError(
            f"{teacher.device} has too little memory for batches of {len(batch.positions)} clips "
            f"({first_line(error)}). Lower --batch-size. {KEPT}"
        ) from None


def _empty(cache: TeacherCache, index: int, device: torch.device) -> torch.Tensor:
    """NaN for each sample of a shard, to be filled batch by batch.

    It is allocated before the shard is encoded. Results kept one by one would each occupy a hole
    in the heap where a batch's activations were, and memory would grow with the shard.
    """
    count = cache.manifest.shards[index].samples
    return torch.full((count, cache.identity.d_model), torch.nan, device=device)


def _put(vectors_NE: torch.Tensor, positions: list[int], vectors_BE: torch.Tensor) -> None:
    # non_blocking: the copy of the positions must not wait for the batch's kernels
    positions_B = torch.tensor(positions).to(vectors_NE.device, non_blocking=True)
    vectors_NE.index_copy_(0, positions_B, vectors_BE)


def _write(
    cache: TeacherCache, end: ShardEnd, filled_NE: torch.Tensor, versions: Mapping[str, str]
) -> Finished:
    start = time.perf_counter()
    vectors_NE = filled_NE.cpu().numpy()
    samples, refused = _refuse_non_finite(vectors_NE, end, cache.identity.dtype)
    result = ShardResult(vectors_NE, samples, refused, end.input_sha256, end.input_bytes)
    try:
        cache.write_shard(end.index, result, versions)
    except OSError as error:
        raise SpeechkdError(
            f"{cache.location} cannot be written: {error}. Make room there or repair it. {KEPT}"
        ) from error
    return Finished(
        index=end.index,
        written=len(samples),
        refused=refused,
        undecoded=len(end.refused),
        read_seconds=end.read_seconds,
        write_seconds=time.perf_counter() - start,
    )


def _refuse_non_finite(
    vectors_NE: "np.ndarray[Any, np.dtype[np.float32]]", end: ShardEnd, dtype: str
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Samples whose vectors are finite as stored, and refusals, those of the others included."""
    with np.errstate(over="ignore"):
        finite_N = np.isfinite(vectors_NE.astype(dtype)).all(axis=1)
    detail = f"the teacher's output is not finite as {dtype}; is the audio far too loud?"
    non_finite = [
        Refusal(Reason.NON_FINITE_VECTOR, detail, sample["key"], sample["position"])
        for sample in end.samples
        if not finite_N[sample["position"]]
    ]
    samples = [sample for sample in end.samples if finite_N[sample["position"]]]
    return samples, sorted([*end.refused, *non_finite], key=lambda refusal: refusal.position or 0)


def _on_device(
    events: Any,
    device: torch.device,
    work: Sequence[Work],
    teacher_on: Callable[[torch.device], Encodes],
    cache_location: str,
    versions: Mapping[str, str],
    batch_size: int,
    workers: int,
    threads: int,
) -> None:
    """Body of one device's process: it sends events to the parent, then None; a failure as text."""
    begin_worker()
    torch.set_num_threads(threads)
    try:
        teacher = teacher_on(device)
        cache = TeacherCache.open(cache_location)
        for event in extract(
            work, teacher, cache, versions, batch_size=batch_size, workers=workers
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
