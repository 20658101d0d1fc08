"""Teacher cache + tokenizer → every clip's tokens and vector, in memory or mapped.

A corpus may have texts that nobody spoke, from tables: clips without a vector, behind the others.

Vectors may lie on the device. Tokens never do: batches are made by the host (`batches`), and the
tokens of one are few.

Shapes: C clips of the corpus, B clips of a batch, N tokens, S stored vectors, E width of the
teacher.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.cache.statistics import Statistics
from pipeline.cache.store import TeacherCache
from pipeline.corpus.arrays import ArrayStore
from pipeline.corpus.prepared import Prepared, prepared_texts
from pipeline.corpus.sources import TextTables
from pipeline.corpus.vectors import Control, Vectors, apply_control, without_vectors
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.memory import Room
from pipeline.foundation.progress import counted
from pipeline.foundation.seeds import generator
from pipeline.models.packing import Packed, pack
from pipeline.models.unknown import Unknown

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Corpus:
    """Every clip's tokens and teacher vector.

    Attributes:
        ids_N: token ids of all clips end to end; int16 holds ids up to 65,535 by their bits.
        starts_C: where each clip's tokens begin, int64.
        lengths_C: how many tokens each clip has, int64.
        vectors: the teacher's vectors.
        row_C: each clip's row in the cache.
        place_C: its place among all clips of the cache, those without text included.
        recording_C: number of each clip's recording, -1 if unknown.
        train: clips to train on.
        held_out: clips of other recordings, for validation.
        where: where tokens and vectors are, and how many bytes they take, in words.
        truncated: how many texts were cut to the greatest length allowed.
        dropped: keys of clips whose text has no token.
        unknown: what the tokenizer does not know of the texts.
        spoken: how many clips have speech. They come first; the others are texts of tables, which
            have a place and a row that no clip of the cache has, and no vector.
    """

    ids_N: Tensor
    starts_C: Tensor
    lengths_C: Tensor
    vectors: Vectors
    row_C: Tensor
    place_C: Tensor
    recording_C: Tensor
    train: Tensor
    held_out: Tensor
    where: str
    truncated: int
    dropped: list[str]
    unknown: Unknown
    spoken: int

    def __len__(self) -> int:
        return len(self.row_C)

    @property
    def all_spoken(self) -> bool:
        """Whether no clip is a text of a table."""
        return self.spoken == len(self)

    @cached_property
    def spoken_train(self) -> Tensor:
        """Clips to train on that have speech."""
        return self.train if self.all_spoken else self.train[self.train < self.spoken]

    @cached_property
    def spoken_held_out(self) -> Tensor:
        """Clips held out that have speech."""
        return self.held_out if self.all_spoken else self.held_out[self.held_out < self.spoken]

    def tokens_of(self, clip_B: Tensor) -> Packed:
        """Tokens of some clips, packed in the order of `clip_B`."""
        lengths_B = self.lengths_C[clip_B]
        first_B = self.starts_C[clip_B] - (lengths_B.cumsum(0) - lengths_B)
        first_N = first_B.repeat_interleave(lengths_B)
        stored_N = self.ids_N[torch.arange(len(first_N)) + first_N].int()
        wide_N = stored_N & 0xFFFF if self.ids_N.dtype == torch.int16 else stored_N
        return pack(wide_N, lengths_B)


def read_corpus(
    cache: TeacherCache | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tables: TextTables | None = None,
    max_tokens: int,
    held_out_share: float,
    seed: int,
    control: Control = "real",
    with_vectors: bool = True,
    prepared: Path | None = None,
    device: torch.device = CPU,
    room: Room | None = None,
) -> Corpus:
    """Read the tokens and vectors of a finished cache, as near to the device as there is room.

    `pipeline.corpus.prepared` makes both once for all runs. Vectors go onto the device if they
    leave half of its free memory. Else they, and tokens in any case, go into this machine's memory
    if they leave half of that. Otherwise they are mapped from their files. Batches are the same
    wherever they are.

    Args:
        cache: the cache to read texts and vectors from; None for the texts of tables alone.
        tokenizer: turns texts into ids.
        tables: texts without speech.
        max_tokens: tokens of the longest sequence.
        held_out_share: share of clips to hold out, by whole recordings.
        seed: decides which recordings are held out, and the controls.
        control: `shuffled` gives every clip the vector of another one, `random` gives it noise of
            the same mean and spread.
        with_vectors: False for masked-LM training alone, which needs none.
        prepared: folder for the prepared tokens and vectors; None for the usual one.
        device: the device that trains.
        room: memory that may be used; None to measure it.

    Raises:
        SpeechkdError: the cache is unfinished or damaged, or holds too few clips.
    """
    texts = prepared_texts(cache, tables, prepared)
    token_store = texts.tokens(tokenizer, max_tokens)
    clips = token_store.rows("lengths")
    if clips < 2:
        raise SpeechkdError(
            f"{texts.source.location} holds {counted(clips, 'clip')} with text; at least 2 are "
            "needed."
        )
    loader = _Loader(room or Room.measured(device))
    tokens = loader.load(
        "tokens", token_store, ("ids", "starts", "lengths", "rows", "places", "recordings")
    )
    ids_N = tokens["ids"]
    ids_N = ids_N.view(torch.int16) if ids_N.dtype == torch.uint16 else ids_N
    # a cache's clips come first, at the places of its vectors
    spoken = int((tokens["places"] < cache.written).sum()) if cache and tables else clips
    spoken = spoken if cache else 0
    if cache and with_vectors:
        vector_store = Prepared(cache, prepared).vectors()
        mean_E, std_E = (vector_store.load(name, CPU).numpy() for name in ("mean", "std"))
        statistics = Statistics(vector_store.rows("vectors"), mean_E, std_E)
        if control == "random":
            stored_SE = vector_store.map("vectors")
            loader.places.append("vectors made up as they are used")
        else:
            stored_SE = loader.load("vectors", vector_store, ("vectors",), device)["vectors"]
        own = Vectors(stored_SE, tokens["places"][:spoken], statistics, device)
        vectors = apply_control(own, control, seed)
    else:
        vectors = without_vectors(tokens["places"], device)
        loader.places.append("no vectors")
    train, held_out = split_parts(token_store.map("recordings"), spoken, held_out_share, seed)
    return Corpus(
        ids_N=ids_N,
        starts_C=tokens["starts"],
        lengths_C=tokens["lengths"],
        vectors=vectors,
        row_C=tokens["rows"],
        place_C=tokens["places"],
        recording_C=tokens["recordings"],
        train=train,
        held_out=held_out,
        where=", ".join(loader.places),
        truncated=token_store.facts["truncated"],
        dropped=token_store.facts["dropped"],
        unknown=Unknown.of_record(token_store.facts["unknown"]),
        spoken=spoken,
    )


class _Loader:
    """Loads arrays to where there is room.

    Attributes:
        room: memory that is left.
        places: where arrays went, in words.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.places: list[str] = []

    def load(
        self, what: str, store: ArrayStore, names: tuple[str, ...], device: torch.device = CPU
    ) -> dict[str, Tensor]:
        """Load some arrays of a store, onto a device if it has room; `what` names them in words."""
        size = store.nbytes(*names)
        size_in_words = f"{what} {size / 1e9:.2f} GB"
        if device.type != "cpu" and size <= self.room.device_bytes:
            self.room = replace(self.room, device_bytes=self.room.device_bytes - size)
            self.places.append(f"{size_in_words} on {device}")
            return {name: store.load(name, device) for name in names}
        if size <= self.room.host_bytes:
            self.room = replace(self.room, host_bytes=self.room.host_bytes - size)
            self.places.append(f"{size_in_words} in memory")
            return {name: store.load(name, CPU) for name in names}
        self.places.append(f"{size_in_words} memory-mapped from {store.folder}")
        return {name: store.map(name) for name in names}


def split_by_recording(
    recording_C: Tensor, held_out_share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Split clips into those to train on and those held out; no recording is on both sides.

    Recordings are held out in a random order until the share is reached, but never more than
    half of the clips. A clip of unknown recording counts as a recording of its own.
    """
    clips = len(recording_C)
    unknown_C = recording_C < 0
    alone = int(unknown_C.sum())
    known = torch.bincount(recording_C[~unknown_C])
    # clips of unknown recordings come first, the last clip first, then recordings by number
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


def split_parts(
    recording_C: Tensor, spoken: int, held_out_share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Split clips with speech and texts without, each by the same share.

    So clips with speech are split as if there were no texts, and runs with and without texts hold
    out the same clips. A text of a recording that clips are of goes where these go.

    Args:
        recording_C: of all clips, those with speech first; negative if unknown.
        spoken: how many clips have speech.
        held_out_share: share to hold out of either part.
        seed: decides which recordings are held out.
    """
    if spoken in (0, len(recording_C)):
        return split_by_recording(recording_C, held_out_share, seed)
    train, held_out = split_by_recording(recording_C[:spoken], held_out_share, seed)
    of_text_T = recording_C[spoken:]
    known_T = of_text_T >= 0
    with_train_T = known_T & torch.isin(of_text_T, recording_C[train])
    with_held_out_T = known_T & torch.isin(of_text_T, recording_C[held_out])
    free = (~with_train_T & ~with_held_out_T).nonzero()[:, 0]
    out_T = with_held_out_T
    if len(free):
        out_T[free[split_by_recording(of_text_T[free], held_out_share, seed)[1]]] = True
    texts_T = spoken + torch.arange(len(of_text_T))
    return torch.cat([train, texts_T[~out_T]]), torch.cat([held_out, texts_T[out_T]])
