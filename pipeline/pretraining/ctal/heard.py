"""What a trained CTAL hears at each token of a text, as a cache that a text student learns from.

The vector of a token is the mean of the states of the frames that look at it, weighted by how much
they do, less what it is when the same text is read beside the audio of another clip: the model has
read the text, so most of a vector tells of it, and a student needs no audio to match that part.

Shapes: B clips of a batch, T tokens of all texts, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pipeline.cache.identity import Dtype, Identity, sequence_identity
from pipeline.cache.receipts import refused_in
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.texts import texts_sha256
from pipeline.cache.writing import ShardWriter
from pipeline.corpus.ctal_model import CtalModel
from pipeline.corpus.draws import random_order
from pipeline.corpus.identity import tokenizer_sha256
from pipeline.corpus.tokenization import Encoding
from pipeline.foundation.progress import Meter
from pipeline.foundation.provenance import versions
from pipeline.models.packing import Packed, encode_packed, pack

TOLD = ("key", "text", "duration_s", "speaker", "recording")
Control: TypeAlias = Literal["real", "shuffled-audio"]


@dataclass(frozen=True)
class Hearing:
    """Computes what is heard at the tokens of clips.

    Attributes:
        model: the trained model, on its device, in evaluation.
        reader: of the cache that has the audio.
        encode: makes tokens of texts.
        layer: whose attention weighs the frames, from 0.
        own_C: the clip whose audio each text stands beside: its own, or under a control another.
        other_C: the clip beside whose audio what is heard is taken away; None for nothing.
    """

    model: CtalModel
    reader: SequenceReader
    encode: Encoding
    layer: int
    own_C: Tensor
    other_C: Tensor | None

    @torch.inference_mode()
    def of(self, clips: Sequence[int]) -> tuple[Tensor, list[list[int]]]:
        """Vectors `[T, D]` of the tokens of some clips, special ones included, and their ids."""
        tokens = self.encode([self.reader.clips.text[clip] for clip in clips])
        text = pack(torch.from_numpy(tokens.ids_N), torch.from_numpy(tokens.lengths_B))
        text = text.to(self.model.text.device)
        text_TD = encode_packed(self.model.text, text)
        heard_TD = self._heard(self.own_C[list(clips)].tolist(), text_TD, text)
        if self.other_C is not None:
            heard_TD = heard_TD - self._heard(self.other_C[list(clips)].tolist(), text_TD, text)
        ids = np.split(tokens.ids_N, np.cumsum(tokens.lengths_B)[:-1])
        return heard_TD, [part.tolist() for part in ids]

    def _heard(self, clips: Sequence[int], text_TD: Tensor, text: Packed) -> Tensor:
        counts_B = torch.from_numpy(self.reader.clips.rows[list(clips)]).long()
        mel_FM = self.reader.values(list(clips)).float()
        values_PC, audio = self.model.features.packed(mel_FM, counts_B)
        device = text_TD.device
        return self.model.audio.heard_by_token(
            values_PC.to(device), audio.to(device), text_TD, text, self.layer
        )


def pairing(clips: int, seed: int, control: Control) -> tuple[Tensor, Tensor]:
    """For each clip the one whose audio its text stands beside, and the one that is taken away.

    Others are those before it in a random order, so that no two of the three are the same.

    Args:
        clips: how many there are, at least 3.
        seed: of the order.
        control: under `shuffled-audio` no text stands beside its own audio.
    """
    order = random_order(clips, seed, "other clips")
    others = []
    for by in (1, 2):
        other = torch.empty_like(order)
        other[order] = order.roll(by)
        others.append(other)
    own = torch.arange(clips) if control == "real" else others[1]
    return own, others[0]


def heard_identity(
    model: CtalModel,
    source: TeacherCache,
    *,
    name: str,
    layer: int,
    less: str,
    control: Control,
    seed: int,
    max_tokens: int,
    dtype: Dtype,
) -> Identity:
    """Of a cache of what is heard: of kind `text`, because a row is a token's.

    Args:
        model: that hears.
        source: the cache that has the audio.
        name: what the user called the model; of a folder only its own name.
        layer: whose attention weighs the frames.
        less: `other-audio` if what is heard beside another clip's audio is taken away, or `none`.
        control: whether texts stand beside their own audio.
        seed: of which clips the others are.
        max_tokens: tokens of the longest text.
        dtype: of the stored values.
    """
    return sequence_identity(
        "text",
        width=model.audio.config.width,
        most_rows=max_tokens,
        dtype=dtype,
        clip_seconds=source.identity.clip_seconds,
        settings={
            "teacher": name,
            "teacher_sha256": model.sha256,
            "tokenizer_sha256": tokenizer_sha256(model.tokenizer),
            "heard_at_layer": layer,
            "less": less,
            "control": control,
            "seed": seed,
            "max_tokens": max_tokens,
            "audio_sha256": source.digest(),
            "texts_sha256": texts_sha256(source),
        },
    )


def write_heard(source: TeacherCache, cache: TeacherCache, hearing: Hearing, clips: int) -> None:
    """Write what is heard of every clip; shards that are done already stay.

    Args:
        source: the finished cache that has the audio.
        cache: the cache to write.
        hearing: computes rows.
        clips: clips per pass.
    """
    ready = set(cache.receipts())
    receipts = source.receipts()
    first_of: dict[int, int] = {}
    first = 0
    for shard in receipts:
        first_of[shard] = first
        first += receipts[shard]["samples"] - len(receipts[shard]["refused"])
    todo = [shard for shard in receipts if shard not in ready]
    total = sum(receipts[s]["samples"] - len(receipts[s]["refused"]) for s in todo)
    with Meter("hearing tokens", total, "clips") as meter:
        for shard in todo:
            _write_shard(source, cache, hearing, shard, first_of[shard], clips, meter)


def _write_shard(
    source: TeacherCache,
    cache: TeacherCache,
    hearing: Hearing,
    shard: int,
    first: int,
    clips: int,
    meter: Meter,
) -> None:
    receipt = source.receipts([shard])[shard]
    refused = refused_in(receipt)
    without = {refusal.position for refusal in refused}
    positions = [p for p in range(receipt["samples"]) if p not in without]
    samples = [
        {"position": position, **{name: sample[name] for name in TOLD}}
        for position, sample in zip(positions, source.shard_samples(shard), strict=True)
    ]
    writer = ShardWriter(cache, shard)
    for at in range(0, len(positions), clips):
        mine = positions[at : at + clips]
        numbers = range(first + at, first + at + len(mine))
        rows_TD, ids = hearing.of(numbers)
        writer.append(
            mine,
            rows_TD.float().cpu().numpy(),
            [len(row) for row in ids],
            ids_N=np.fromiter(chain.from_iterable(ids), np.int32),
        )
        meter.advance(len(mine))
    writer.finish(samples, refused, receipt["input_sha256"], receipt["input_bytes"], versions())
