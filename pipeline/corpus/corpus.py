"""Teacher cache + tokenizer → every clip's tokens and vector, on the device, in memory or mapped.

Shapes: C clips of the corpus, B clips asked for, N tokens, E width of the teacher.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.cache.statistics import Statistics
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayStore
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.vectors import Control, Vectors, controlled, without_vectors
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.memory import Room
from pipeline.foundation.seeds import generator
from pipeline.models.packing import Packed, pack

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Corpus:
    """Every clip's tokens and teacher vector.

    Attributes:
        ids_N: tokens of all clips end to end; int16 holds ids up to 65,535 by their bits.
        starts_C: where each clip's tokens begin, int64.
        lengths_C: how many it has, int64.
        vectors: the teacher's.
        row_C: rows in the cache.
        recording_C: number of the recording, -1 where unknown.
        train: clips to train on.
        held_out: clips of other recordings, for validation.
        where: where tokens and vectors are kept, and how many bytes, in words.
        truncated: texts that were cut to the longest length allowed.
        dropped: keys of clips whose text holds no token.
    """

    ids_N: Tensor
    starts_C: Tensor
    lengths_C: Tensor
    vectors: Vectors
    row_C: Tensor
    recording_C: Tensor
    train: Tensor
    held_out: Tensor
    where: str
    truncated: int
    dropped: list[str]

    def __len__(self) -> int:
        return len(self.row_C)

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
    with_vectors: bool = True,
    prepared: Path | None = None,
    device: torch.device = CPU,
    room: Room | None = None,
) -> Corpus:
    """The tokens and vectors of a finished cache, as near to the device as there is room.

    Both are made ready once for all runs (`pipeline.corpus.prepared`). On the device if they leave
    most of its free memory, else in this machine's memory if they leave most of that, else mapped
    from their files. What is trained is the same, bit for bit.

    Args:
        cache: whose texts and vectors to read.
        tokenizer: turns texts into ids.
        max_tokens: longest sequence kept.
        held_out_share: share of clips to hold out, by whole recordings.
        seed: decides which recordings are held out, and the controls.
        control: `shuffled` gives every clip another one's vector, `random` gives it noise of the
            same mean and spread.
        with_vectors: False for masked-LM training alone, which needs none.
        prepared: folder for what is made ready; None for the usual one.
        device: where training is.
        room: what may be taken; None for what is measured.

    Raises:
        SpeechkdError: the cache is unfinished or damaged, or holds too few clips.
    """
    ready = Prepared(cache, prepared)
    store = ready.tokens(tokenizer, max_tokens)
    clips = store.rows("lengths")
    if clips < 2:
        raise SpeechkdError(
            f"{cache.location} holds {clips} clips with text; at least 2 are needed."
        )
    room = room or Room.measured(device)
    taker = _Taker(room, device)
    taken = taker.take(
        "tokens", store, ("ids", "starts", "lengths", "rows", "places", "recordings")
    )
    ids_N = taken["ids"]
    ids_N = ids_N.view(torch.int16) if ids_N.dtype == torch.uint16 else ids_N
    home = ids_N.device
    if with_vectors:
        store_of_vectors = ready.vectors()
        mean_E, std_E = (store_of_vectors.loaded(name, CPU).numpy() for name in ("mean", "std"))
        statistics = Statistics(store_of_vectors.rows("vectors"), mean_E, std_E)
        if control == "random":
            stored_SE = store_of_vectors.mapped("vectors")
            taker.words.append("vectors made up as they are used")
        else:
            stored_SE = taker.take("vectors", store_of_vectors, ("vectors",))["vectors"]
        vectors = controlled(Vectors(stored_SE, taken["places"], statistics), control, seed)
    else:
        vectors = without_vectors(taken["places"])
        taker.words.append("no vectors")
    train, held_out = split_by_recording(store.mapped("recordings"), held_out_share, seed)
    return Corpus(
        ids_N=ids_N,
        starts_C=taken["starts"],
        lengths_C=taken["lengths"],
        vectors=vectors,
        row_C=taken["rows"],
        recording_C=taken["recordings"],
        train=train.to(home),
        held_out=held_out.to(home),
        where=", ".join(taker.words),
        truncated=store.facts["truncated"],
        dropped=store.facts["dropped"],
    )


class _Taker:
    """Takes arrays where there is room; vectors go to the device only after tokens."""

    def __init__(self, room: Room, device: torch.device) -> None:
        self.room, self.device = room, device
        self.words: list[str] = []

    def take(self, what: str, store: ArrayStore, names: tuple[str, ...]) -> dict[str, Tensor]:
        size = store.nbytes(*names)
        told = f"{what} {size / 1e9:.2f} GB"
        if self.device.type != "cpu" and size <= self.room.device_bytes:
            self.room = replace(self.room, device_bytes=self.room.device_bytes - size)
            self.words.append(f"{told} on {self.device}")
            return {name: store.loaded(name, self.device) for name in names}
        self.room = replace(self.room, device_bytes=-1)
        if size <= self.room.host_bytes:
            self.room = replace(self.room, host_bytes=self.room.host_bytes - size)
            self.words.append(f"{told} in memory")
            return {name: store.loaded(name, CPU) for name in names}
        self.words.append(f"{told} memory-mapped from {store.folder}")
        return {name: store.mapped(name) for name in names}


def split_by_recording(
    recording_C: Tensor, held_out_share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Clips to train on and clips held out; a recording is never on both sides.

    Recordings are held out in a random order until the share is reached, but never more than
    half of the clips. A clip of unknown recording is a recording of its own.
    """
    clips = len(recording_C)
    unknown_C = recording_C < 0
    alone = int(unknown_C.sum())
    known = torch.bincount(recording_C[~unknown_C])
    # those alone come first, the last clip before the others, then recordings by their number
    member_C = (
        torch.where(
            unknown_C, alone - unknown_C.cumsum(0), alone + (known > 0).cumsum(0)[recording_C] - 1
        )
        if len(known)
        else clips - 1 - torch.arange(clips)
    )
    sizes = torch.cat([torch.ones(alone, dtype=torch.int64), known[known > 0]])
    order = torch.randperm(len(sizes), generator=generator(seed, "held out"))
    filled = sizes[order].cumsum(0)
    wanted = 0 if held_out_share == 0 else max(1, round(held_out_share * clips))
    count = int((filled - sizes[order] < wanted).sum())
    while count and int(filled[count - 1]) > clips / 2:
        count -= 1
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    chosen[order[:count]] = True
    out_C = chosen[member_C]
    return torch.where(~out_C)[0], torch.where(out_C)[0]
