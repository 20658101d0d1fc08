"""Teacher cache + tokenizer → resident tokens and vectors, and batches that depend on nothing else.

The order of clips, masks and extra negatives are pure functions of (seed, epoch, step): there is
no data loader and no state, so a run resumes at any step at once and exactly.

Shapes: C clips of the cache, B clips of a batch, N tokens, K chosen or drawn things, E width of
the teacher.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.cache import TeacherCache
from pipeline.errors import SpeechkdError
from pipeline.objectives.contract import TeacherStatistics
from pipeline.progress import Meter
from pipeline.seeds import generator
from pipeline.static_shapes import Shape
from pipeline.student import Packed, pack
from pipeline.tokenization import Encoding

DEVICE_SHARE = 0.5
"""Share of a device's free memory that tokens and vectors may take."""
MEMORY_SHARE = 0.5
"""Share of the machine's free memory that vectors may take."""
TOKENS_ROUNDED_TO = 128
"""Filled-up batches have a multiple of this many tokens: whole tiles for matrix kernels."""

Control = Literal["real", "shuffled", "random"]


@dataclass(frozen=True)
class Corpus:
    """Every clip's tokens and teacher vector, in memory or on the device.

    Attributes:
        ids_N: tokens of all clips end to end; int16 holds ids up to 65,535 by their bits.
        starts_C: where each clip's tokens begin, int64.
        lengths_C: how many it has, int64.
        vector_CE: teacher vectors, in the cache's own precision.
        vector_of_C: which of them belongs to each clip: its own, but for a control.
        row_C: rows in the cache.
        recording_C: number of the recording, -1 where unknown.
        train: clips to train on.
        held_out: clips of other recordings, for validation.
        statistics: of all teacher vectors.
        where: where tokens and vectors are kept, in words.
        truncated: texts that were cut to the longest length allowed.
        dropped: keys of clips whose text holds no token.
    """

    ids_N: Tensor
    starts_C: Tensor
    lengths_C: Tensor
    vector_CE: Tensor
    vector_of_C: Tensor
    row_C: Tensor
    recording_C: Tensor
    train: Tensor
    held_out: Tensor
    statistics: TeacherStatistics
    where: str
    truncated: int
    dropped: list[str]

    def __len__(self) -> int:
        return len(self.row_C)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is resident."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def place(self, device: torch.device) -> "Corpus":
        """The same corpus on a device if it leaves most of its memory free, else where it is.

        Batches are made where the corpus is: on the device nothing passes through the host.
        """
        if device.type == "cpu":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.nbytes > DEVICE_SHARE * free:
            return self
        moved: dict[str, Any] = {
            n: v.to(device) for n, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **moved, where=f"on {device}")

    def teacher_of(self, clip_B: Tensor) -> Tensor:
        """Teacher vectors of some clips."""
        return self.vector_CE[self.vector_of_C[clip_B]]

    def tokens_of(self, clip_B: Tensor) -> Packed:
        """Tokens of some clips, packed in the order given."""
        lengths_B = self.lengths_C[clip_B]
        first_B = self.starts_C[clip_B] - (lengths_B.cumsum(0) - lengths_B)
        place_N = torch.arange(int(lengths_B.sum()), device=lengths_B.device)
        stored_N = self.ids_N[place_N + first_B.repeat_interleave(lengths_B)].int()
        wide_N = stored_N & 0xFFFF if self.ids_N.dtype == torch.int16 else stored_N
        return pack(wide_N, lengths_B)


def read_corpus(
    cache: TeacherCache,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    held_out_share: float,
    seed: int,
    control: Control = "real",
    spill: Path | None = None,
) -> Corpus:
    """Read a finished cache into memory, a shard at a time.

    Args:
        cache: whose texts and vectors to read.
        tokenizer: turns texts into ids.
        max_tokens: longest sequence kept.
        held_out_share: share of clips to hold out, by whole recordings.
        seed: decides which recordings are held out, and the controls.
        control: `shuffled` gives every clip another one's vector, `random` gives it noise of the
            same mean and spread.
        spill: file to keep the vectors in, memory-mapped, if they would fill half of the memory
            that is free.

    Raises:
        SpeechkdError: the cache is unfinished or holds too few clips.
    """
    unfinished = cache.unfinished()
    if unfinished:
        raise SpeechkdError(
            f"{cache.location}: {len(unfinished)} of {len(cache.manifest)} shards are not "
            f"finished (the first is {unfinished[0]}). Run `speechkd extract-teacher` again; it "
            "makes only what is missing."
        )
    encode = Encoding(tokenizer, max_tokens)
    counts = {shard: receipt["written"] for shard, receipt in cache.receipts().items()}
    total = sum(counts.values())
    width = cache.identity.d_model
    small = len(tokenizer) <= 2**16
    ids: list[NDArray[np.int16] | NDArray[np.int32]] = []
    lengths_C = np.zeros(total, np.int64)
    vector_CE, where = _room((total, width), np.dtype(cache.identity.dtype), spill)
    row_C, recording_C = np.zeros(total, np.int64), np.full(total, -1, np.int64)
    recordings: dict[str, int] = {}
    dropped: list[str] = []
    done = truncated = 0
    with Meter("reading the cache", total, "clips") as meter:
        for shard in counts:
            samples = cache.shard_samples(shard)
            tokens = encode([s["text"] for s in samples])
            full_S = tokens.lengths_B > len(encode.prefix) + len(encode.suffix)
            truncated += tokens.truncated
            dropped += [s["key"] for s, full in zip(samples, full_S, strict=True) if not full]
            kept_N = tokens.ids_N[np.repeat(full_S, tokens.lengths_B)]
            ids.append(kept_N.astype(np.uint16).view(np.int16) if small else kept_N)
            here = slice(done, done + int(full_S.sum()))
            rows_S = np.array([s["row"] for s in samples], np.int64)[full_S]
            lengths_C[here], row_C[here] = tokens.lengths_B[full_S], rows_S
            vector_CE[here] = cache.block(shard)[rows_S - cache.rows_of(shard).start]
            recording_C[here] = [
                -1 if name is None else recordings.setdefault(name, len(recordings))
                for name, full in zip((s["recording"] for s in samples), full_S, strict=True)
                if full
            ]
            done = here.stop
            meter.advance(len(samples))
    if done < 2:
        raise SpeechkdError(
            f"{cache.location} holds {done} clips with text; at least 2 are needed."
        )
    lengths = torch.from_numpy(lengths_C[:done])
    statistics = cache.statistics()
    side = TeacherStatistics(
        torch.from_numpy(statistics.mean_D), torch.from_numpy(statistics.std_D)
    )
    recording = torch.from_numpy(recording_C[:done])
    train, held_out = split_by_recording(recording, held_out_share, seed)
    return Corpus(
        ids_N=torch.from_numpy(np.concatenate(ids)),
        starts_C=lengths.cumsum(0) - lengths,
        lengths_C=lengths,
        vector_CE=_controlled(torch.from_numpy(vector_CE[:done]), control, side, seed),
        vector_of_C=_owners(done, control, seed),
        row_C=torch.from_numpy(row_C[:done]),
        recording_C=recording,
        train=train,
        held_out=held_out,
        statistics=side,
        where=where,
        truncated=truncated,
        dropped=dropped,
    )


def split_by_recording(
    recording_C: Tensor, held_out_share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Clips to train on and clips held out; a recording is never on both sides.

    Recordings are held out in a random order until the share is reached, but never more than
    half of the clips. A clip of unknown recording is a recording of its own.
    """
    clips = len(recording_C)
    own_C = torch.where(recording_C >= 0, recording_C, -1 - torch.arange(clips))
    names, member_C = torch.unique(own_C, return_inverse=True)
    sizes = torch.bincount(member_C, minlength=len(names))
    order = torch.randperm(len(names), generator=generator(seed, "held out"))
    filled = sizes[order].cumsum(0)
    wanted = 0 if held_out_share == 0 else max(1, round(held_out_share * clips))
    count = int((filled - sizes[order] < wanted).sum())
    while count and int(filled[count - 1]) > clips / 2:
        count -= 1
    out = torch.isin(member_C, order[:count])
    return torch.where(~out)[0], torch.where(out)[0]


def _controlled(
    vector_CE: Tensor, control: Control, statistics: TeacherStatistics, seed: int
) -> Tensor:
    if control == "random":
        source = generator(seed, "control random")
        for first in range(0, len(vector_CE), 65_536):
            part = vector_CE[first : first + 65_536]
            noise = torch.randn(part.shape, generator=source)
            part.copy_(noise * statistics.std_E.float() + statistics.mean_E.float())
    return vector_CE


def _owners(clips: int, control: Control, seed: int) -> Tensor:
    """Which vector belongs to each clip."""
    if control != "shuffled":
        return torch.arange(clips)
    # a random order rolled by one is one cycle through all clips: none keeps its own vector
    order = torch.randperm(clips, generator=generator(seed, "control shuffled"))
    owner_C = torch.empty_like(order)
    owner_C[order] = order.roll(1)
    return owner_C


def _room(
    shape: tuple[int, int], dtype: np.dtype[Any], spill: Path | None
) -> tuple[NDArray[Any], str]:
    """An empty array in memory, or in a file if it would fill half of what is free."""
    if spill is None or shape[0] * shape[1] * dtype.itemsize < MEMORY_SHARE * available_bytes():
        return np.zeros(shape, dtype), "in memory"
    spill.parent.mkdir(parents=True, exist_ok=True)
    mapped = np.lib.format.open_memmap(spill, mode="w+", dtype=dtype, shape=shape)
    return mapped, f"memory-mapped in {spill}"


def available_bytes() -> int:
    """Memory that this machine can give without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {name: value for name, _, value in (line.partition(":") for line in lines)}
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: what is there in all is the best that is known
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True)
class Masking:
    """What is masked: a share of the tokens that are not special, 80/10/10 as in BERT.

    Attributes:
        share: of the batch's ordinary tokens that are predicted; this many exactly, at least one.
        mask_id: id of the mask token.
        special_V: which ids are special and never chosen.
    """

    share: float
    mask_id: int
    special_V: Tensor

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, share: float, device: torch.device
    ) -> "Masking":
        """The masking that belongs to a tokenizer."""
        special_V = torch.zeros(len(tokenizer), dtype=torch.bool, device=device)
        special_V[torch.tensor(tokenizer.all_special_ids, device=device)] = True
        return cls(share, int(tokenizer.mask_token_id or 0), special_V)

    def choose(self, ids_N: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Chosen places, ascending, and the ids to show instead of the whole sequence."""
        device, vocabulary = ids_N.device, len(self.special_V)
        special_N = self.special_V[ids_N]
        draw_N = torch.rand(len(ids_N), generator=source, device=device)
        ordinary = int((~special_N).sum())
        count = max(1, round(self.share * ordinary))
        chosen_K = draw_N.masked_fill(special_N, 2.0).topk(count, largest=False).indices.sort()[0]
        fate_K = torch.rand(count, generator=source, device=device)
        other_K = torch.randint(vocabulary, (count,), generator=source, device=device)
        kept_K = torch.where(fate_K < 0.9, other_K, ids_N[chosen_K])
        shown_N = ids_N.clone()
        shown_N[chosen_K] = torch.where(fate_K < 0.8, self.mask_id, kept_K)
        return chosen_K, shown_N


@dataclass(frozen=True)
class Batch:
    """A share of one batch: the tokens of this process, and the clips of all of them.

    Attributes:
        packed: this process's sequences, unmasked.
        shown_N: their tokens with masks.
        chosen_K: which of them are to be predicted.
        chosen_total: how many tokens all processes predict together.
        clip_N: for each token, its clip's place in the whole batch.
        special_N: which tokens are special.
        clip_B: the whole batch's clips in the corpus.
        lengths_B: their tokens.
        teacher_BE: their teacher vectors.
        row_B: their rows in the cache.
        recording_B: their recordings.
        corpus_clips: how many clips there are to train on.
        negative_KE: teacher vectors drawn from the whole corpus as extra negatives, or None.
        negative_row_K: their rows.
        negative_recording_K: their recordings.
        processes: how many processes share the batch.
    """

    packed: Packed
    shown_N: Tensor
    chosen_K: Tensor
    chosen_total: int
    clip_N: Tensor
    special_N: Tensor
    clip_B: Tensor
    lengths_B: Tensor
    teacher_BE: Tensor
    row_B: Tensor
    recording_B: Tensor
    corpus_clips: int
    negative_KE: Tensor | None = None
    negative_row_K: Tensor | None = None
    negative_recording_K: Tensor | None = None
    processes: int = 1

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        if self.clip_B.device == device:
            return self
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor | Packed)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Batches:
    """All batches of a run, each a function of its step.

    Args:
        corpus: where they come from.
        masking: which tokens are predicted.
        clips_per_batch: B, over all processes together.
        seed: of the order of clips, masks and negatives.
        extra_negatives: clips drawn from all of the training part at each step.
        process: which share of each batch this process takes.
        processes: how many shares there are.
        device: where the batches are wanted.
    """

    corpus: Corpus
    masking: Masking
    clips_per_batch: int
    seed: int
    extra_negatives: int = 0
    process: int = 0
    processes: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch; clips that fill no batch wait for the next epoch's order."""
        return len(self.corpus.train) // self.clips_per_batch

    def order(self, epoch: int) -> Tensor:
        """The clips in their order of this epoch."""
        train = self.corpus.train
        source = generator(self.seed, "order", epoch)
        return train[torch.randperm(len(train), generator=source).to(train.device)]

    def epoch(self, epoch: int) -> Callable[[int], Batch]:
        """The batches of an epoch, by their place in it."""
        order = self.order(epoch)
        size = self.clips_per_batch

        def at(place: int) -> Batch:
            clip_B = order[place * size : (place + 1) * size]
            return self.make(clip_B, "train", epoch, place)

        return at

    def shape(self, epochs: int) -> Shape:
        """The shape that holds this process's share of every batch of so many epochs."""
        size, share = self.clips_per_batch, self.processes
        orders = (self.order(epoch) for epoch in range(epochs))
        parts = [torch.split(order[: self.per_epoch * size], size) for order in orders]
        tokens = 0
        for clip_B in (*(p for part in parts for p in part), *self.held_out()):
            mine_B = self.corpus.lengths_C[clip_B[self.process :: share]]
            tokens = max(tokens, int(mine_B.sum()))
        whole = -(-tokens // TOKENS_ROUNDED_TO) * TOKENS_ROUNDED_TO
        return Shape(-(-size // share), whole, int(self.corpus.lengths_C.max()))

    def held_out(self) -> list[Tensor]:
        """The clips of each validation batch: always the same, a last partial one left out.

        A single partial one is kept if there is a clip for every process.
        """
        clips, size = self.corpus.held_out, self.clips_per_batch
        parts = list(torch.split(clips, size)) if len(clips) >= self.processes else []
        return parts[:-1] if len(parts) > 1 and len(parts[-1]) < size else parts

    def make(self, clip_B: Tensor, stream: str, epoch: int, step: int) -> Batch:
        """The batch of some clips, its masks and negatives drawn from a stream of their own."""
        device = clip_B.device
        whole = self.corpus.tokens_of(clip_B)
        source = generator(self.seed, f"masks {stream}", epoch, step, device)
        chosen_K, shown_N = self.masking.choose(whole.ids_N, source)
        batch = Batch(
            packed=whole,
            shown_N=shown_N,
            chosen_K=chosen_K,
            chosen_total=len(chosen_K),
            clip_N=whole.sequence_N,
            special_N=self.masking.special_V[whole.ids_N],
            clip_B=clip_B,
            lengths_B=whole.lengths_B,
            teacher_BE=self.corpus.teacher_of(clip_B),
            row_B=self.corpus.row_C[clip_B],
            recording_B=self.corpus.recording_C[clip_B],
            corpus_clips=len(self.corpus.train),
        )
        if self.extra_negatives:
            batch = self._with_negatives(batch, stream, epoch, step)
        return (batch if self.processes == 1 else self._share(batch)).to(self.device)

    def _with_negatives(self, batch: Batch, stream: str, epoch: int, step: int) -> Batch:
        train = self.corpus.train
        source = generator(self.seed, f"negatives {stream}", epoch, step, train.device)
        drawn_K = train[
            torch.randint(
                len(train), (self.extra_negatives,), generator=source, device=train.device
            )
        ]
        return replace(
            batch,
            negative_KE=self.corpus.teacher_of(drawn_K),
            negative_row_K=self.corpus.row_C[drawn_K],
            negative_recording_K=self.corpus.recording_C[drawn_K],
        )

    def _share(self, batch: Batch) -> Batch:
        """The part of a batch that this process computes: every so many-th clip."""
        whole = batch.packed
        mine_N = whole.sequence_N % self.processes == self.process
        mine_B = torch.arange(len(whole.lengths_B), device=mine_N.device) % self.processes
        renumbered_N = mine_N.long().cumsum(0) - 1
        return replace(
            batch,
            packed=pack(whole.ids_N[mine_N], whole.lengths_B[mine_B == self.process]),
            shown_N=batch.shown_N[mine_N],
            chosen_K=renumbered_N[batch.chosen_K[mine_N[batch.chosen_K]]],
            clip_N=batch.clip_N[mine_N],
            special_N=batch.special_N[mine_N],
            processes=self.processes,
        )
