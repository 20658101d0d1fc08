"""Clips with the rows that one cache or several have of them, and their texts as tokens if asked.

Shapes: B clips of a batch, C clips of the corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.cache.sequences import SequenceReader, finished
from pipeline.cache.store import TeacherCache
from pipeline.corpus.corpus import Corpus, read_corpus, split_by_recording
from pipeline.corpus.joining import Listing, join
from pipeline.corpus.rows import RowControl, Sequences, control_rows
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.lengths import Lengths
from pipeline.models.packing import Packed

TOKENS = "tokens"
NO_CONTROLS: Mapping[str, RowControl] = {}


class Part(Protocol):
    """What a batch holds of its clips."""

    def of(self, clip_B: Tensor) -> Lengths:
        """This part of some clips, packed in the order of `clip_B`."""
        ...

    def lengths_of(self, clip_B: Tensor) -> Tensor:
        """How many places each clip `[B]` has; nothing is read."""
        ...


@dataclass(frozen=True)
class Tokens:
    """The texts of clips as token ids.

    Attributes:
        corpus: holds them.
        place_C: which of its clips each clip is.
    """

    corpus: Corpus
    place_C: Tensor

    def of(self, clip_B: Tensor) -> Packed:
        """Tokens of some clips, packed in the order of `clip_B`."""
        return self.corpus.tokens_of(self.place_C[clip_B])

    def lengths_of(self, clip_B: Tensor) -> Tensor:
        """How many tokens each clip has."""
        return self.corpus.lengths_C[self.place_C[clip_B]]


@dataclass(frozen=True)
class RowCorpus:
    """Clips that all of some caches have.

    Attributes:
        parts: what batches hold of them, by name: rows of each cache, and `tokens` if asked for.
        keys: of the clips, in the order of the first cache.
        texts: theirs.
        recording_C: number of each clip's recording, -1 if unknown.
        speaker_C: number of each clip's speaker, -1 if unknown.
        train: clips to train on.
        held_out: clips of other recordings, or of other speakers.
        omissions: what was left out and why, in words; empty if nothing was.
    """

    parts: Mapping[str, Part]
    keys: Sequence[str]
    texts: Sequence[str]
    recording_C: Tensor
    speaker_C: Tensor
    train: Tensor
    held_out: Tensor
    omissions: str

    def __len__(self) -> int:
        return len(self.keys)


def read_rows(
    caches: Mapping[str, TeacherCache],
    *,
    held_out_share: float,
    seed: int,
    split_by: Literal["recording", "speaker"] = "recording",
    controls: Mapping[str, RowControl] = NO_CONTROLS,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_tokens: int = 128,
    prepared: Path | None = None,
) -> RowCorpus:
    """Join caches of sequences by key; their rows are read later, batch by batch.

    Args:
        caches: by the name that a batch gives their rows; the first one decides the order of clips.
        held_out_share: share of clips to hold out, by whole recordings or speakers.
        seed: decides what is held out, and the controls.
        split_by: what no two sides share; the recording where no speaker is known.
        controls: by name of a cache, what its rows are replaced by; `relabelled` is for a cache of
            kind `text`.
        tokenizer: turns the texts into the part `tokens`; None for none.
        max_tokens: tokens of the longest text.
        prepared: folder for the tokens; None for the usual one.

    Raises:
        SpeechkdError: a cache is unfinished, two caches hardly meet or differ in a text, or a
            control does not go with a cache.
    """
    for name, control in controls.items():
        if control == "relabelled" and caches[name].identity.kind != "text":
            raise SpeechkdError(
                f"{caches[name].location}: the control relabelled exchanges texts, and this is a "
                f"cache of {caches[name].identity.kind}. Use shuffled."
            )
    readers = {
        name: SequenceReader(finished(cache), with_words=False) for name, cache in caches.items()
    }
    listings = {
        name: Listing(caches[name].location, reader.clips.key, reader.clips.text)
        for name, reader in readers.items()
    }
    first = next(iter(caches))
    text_tokens: Corpus | None = None
    if tokenizer is not None:
        text_tokens = read_corpus(
            caches[first],
            tokenizer,
            max_tokens=max_tokens,
            held_out_share=0,
            seed=seed,
            with_vectors=False,
            prepared=prepared,
        )
        with_text = text_tokens.place_C.tolist()
        listing = listings[first]
        listings[TOKENS] = Listing(
            listing.location, *([x[i] for i in with_text] for x in (listing.keys, listing.texts))
        )
    joined = join(listings)
    places = {name: torch.from_numpy(place_C) for name, place_C in joined.places.items()}
    here = places[first].tolist()
    clips = readers[first].clips
    keys, texts = ([column[i] for i in here] for column in (clips.key, clips.text))
    parts: dict[str, Part] = {
        name: control_rows(
            Sequences(readers[name], places[name], caches[name].statistics()),
            controls.get(name, "real"),
            seed,
            texts,
        )
        for name in caches
    }
    if text_tokens is not None:
        parts[TOKENS] = Tokens(text_tokens, places[TOKENS])
    recording_C, speaker_C = (
        numbered([column[i] for i in here]) for column in (clips.recording, clips.speaker)
    )
    by_C = (
        recording_C if split_by == "recording" else _speakers_or_recordings(speaker_C, recording_C)
    )
    train, held_out = split_by_recording(by_C, held_out_share, seed)
    return RowCorpus(parts, keys, texts, recording_C, speaker_C, train, held_out, joined.in_words())


def _speakers_or_recordings(speaker_C: Tensor, recording_C: Tensor) -> Tensor:
    """The speaker of each clip, or its recording where no speaker is known, -1 where neither is."""
    speakers = int(speaker_C.max()) + 1 if len(speaker_C) else 0
    other_C = torch.where(recording_C >= 0, speakers + recording_C, -1)
    return torch.where(speaker_C >= 0, speaker_C, other_C)


def numbered(names: Sequence[str | None]) -> Tensor:
    """Numbers from 0 for names, in the order of their first appearance; -1 for None."""
    number_of: dict[str, int] = {}
    return torch.tensor(
        [-1 if name is None else number_of.setdefault(name, len(number_of)) for name in names],
        dtype=torch.int64,
    )
