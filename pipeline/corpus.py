"""Teacher cache + tokenizer → resident tokens and vectors, and batches that depend on nothing else.

The order of clips, masks and extra negatives are pure functions of (seed, epoch, step): there is
no data loader and no state, so a run resumes at any step at once and exactly.

Shapes: C clips of the cache, B clips of a batch, N tokens, K chosen or drawn things, E width of
the teacher.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from pipeline.static_shapes import Shape
from pipeline.student import Packed, pack
from pipeline.tokenization import Encoding

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
        row_C: rows in the cache.
        recording_C: number of the recording, -1 where unknown.
        train: clips to train on.
        held_out: clips of other recordings, for validation.
        statistics: of all teacher vectors.
        truncated: texts that were cut to the longest length allowed.
        dropped: keys of clips whose text holds no token.
    """

    ids_N: Tensor
    starts_C: Tensor
    lengths_C: Tensor
    vector_CE: Tensor
    row_C: Tensor
    recording_C: Tensor
    train: Tensor
    held_out: Tensor
    statistics: TeacherStatistics
    truncated: int
    dropped: list[str]

    def __len__(self) -> int:
        return len(self.row_C)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is resident."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def place(self, device: torch.device) -> "Corpus":
        """The same corpus with all of its tensors on a device."""
        moved: dict[str, Any] = {
            n: v.to(device) for n, v in vars(self).items() if isinstance(v, Tensor)
        }
        side = TeacherStatistics(
            self.statistics.mean_E.to(device), self.statistics.std_E.to(device)
        )
        return replace(self, **moved, statistics=side)

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
    vector_CE = np.zeros((total, width), cache.identity.dtype)
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
        row_C=torch.from_numpy(row_C[:done]),
        recording_C=recording,
        train=train,
        held_out=held_out,
        statistics=side,
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
    source = generator(seed, f"control {control}")
    if control == "shuffled":
        # a rotation of a random order is one cycle through all clips: none keeps its own vector
        order = torch.randperm(len(vector_CE), generator=source)
        shuffled_CE = torch.empty_like(vector_CE)
        shuffled_CE[order] = vector_CE[order.roll(1)]
        return shuffled_CE
    if control == "random":
        for first in range(0, len(vector_CE), 65_536):
            part = vector_CE[first : first + 65_536]
            noise = torch.randn(part.shape, generator=source)
            part.copy_(noise * statistics.std_E.float() + statistics.mean_E.float())
    return vector_CE


def generator(
    seed: int, stream: str, epoch: int = 0, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh source of random numbers that depends on its arguments only."""
    name = f"{seed}/{stream}/{epoch}/{step}".encode()
    state = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(state)


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
        negative_K: clips drawn from the whole corpus as extra negatives, or None.
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
    negative_K: Tensor | None
    processes: int = 1


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
    """

    corpus: Corpus
    masking: Masking
    clips_per_batch: int
    seed: int
    extra_negatives: int = 0
    process: int = 0
    processes: int = 1

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
        """The clips of each validation batch: always the same, a last partial one left out."""
        clips, size = self.corpus.held_out, self.clips_per_batch
        parts = list(torch.split(clips, size)) if len(clips) else []
        return parts[:-1] if len(parts) > 1 and len(parts[-1]) < size else parts

    def make(self, clip_B: Tensor, stream: str, epoch: int, step: int) -> Batch:
        """The batch of some clips, its masks and negatives drawn from a stream of their own."""
        device = clip_B.device
        whole = self.corpus.tokens_of(clip_B)
        source = generator(self.seed, f"masks {stream}", epoch, step, device)
        chosen_K, shown_N = self.masking.choose(whole.ids_N, source)
        negative_K = None
        if self.extra_negatives:
            draw = generator(self.seed, f"negatives {stream}", epoch, step, device)
            train = self.corpus.train
            picked = torch.randint(
                len(train), (self.extra_negatives,), generator=draw, device=device
            )
            negative_K = train[picked]
        batch = Batch(
            packed=whole,
            shown_N=shown_N,
            chosen_K=chosen_K,
            chosen_total=len(chosen_K),
            clip_N=whole.sequence_N,
            special_N=self.masking.special_V[whole.ids_N],
            clip_B=clip_B,
            lengths_B=whole.lengths_B,
            negative_K=negative_K,
        )
        return batch if self.processes == 1 else self._share(batch)

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
