"""A teacher's name → its decoder, its alignment heads and its tokenizer, if it has them.

Nothing here is read unless word times are wanted of a clip whose tar does not tell them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.extraction.decoder import AlignmentDecoder, AlignmentHeads, DecoderShape
from pipeline.extraction.offline import (
    HEAD_WIDTH,
    Tensors,
    decoder_tensors,
    offline_model,
    read_variables,
)
from pipeline.extraction.transcripts import TranscriptReader, read_tokenizer
from pipeline.extraction.weights import fetch_beside, read_tensors, teacher_folder
from pipeline.foundation.errors import Damaged, NotThere
from pipeline.foundation.untrusted import parse_json, read_text_file

MULTILINGUAL_VOCABULARY = 51_865
"""OpenAI's models of several languages have so many tokens or more, the English ones fewer."""
LARGEST = DecoderShape(2**14, 1024, 1024, 2**16, 2**20, 2**16)
"""A configuration with larger numbers is damaged, or meant to exhaust the machine."""
PREFIXES = ("model.decoder.", "decoder.")
BESIDE = ("generation_config.json", "tokenizer.json", "vocab.json", "merges.txt")
OTHER_KINDS = (
    "The kinds vector and states need no decoder, and words needs none where every sample's .json "
    "tells its word times."
)


@dataclass(frozen=True)
class DecoderFiles:
    """What a teacher's files tell of its decoder."""

    shape: DecoderShape
    heads: AlignmentHeads
    multilingual: bool
    tensors: Tensors
    folder: Path
    """Holds the tokenizer."""

    def decoder(self) -> AlignmentDecoder:
        """Build the decoder.

        Raises:
            Damaged: the tensors do not fit the shape.
        """
        return AlignmentDecoder.from_tensors(self.shape, self.heads, self.tensors, str(self.folder))

    def reader(self, language: str, name: str) -> TranscriptReader:
        """Build what turns texts into tokens.

        Raises:
            SpeechkdError: there is no tokenizer, or it or the model lacks the language.
        """
        most = self.shape.max_target_positions
        tokenizer = read_tokenizer(self.folder)
        reader = TranscriptReader(tokenizer, self.multilingual, language, most, name)
        if reader.largest_token >= self.shape.vocab_size:
            raise Damaged(
                f"{self.folder}: its tokenizer has a token {reader.largest_token:,}, and the "
                f"decoder has {self.shape.vocab_size:,} tokens. Copy this model's tokenizer there."
            )
        return reader


def read_decoder(name: str) -> DecoderFiles:
    """Find and read the decoder of a teacher.

    Args:
        name: as for `teacher_folder`.

    Raises:
        SpeechkdError: the teacher has no decoder, no alignment heads or no tokenizer, or they
            cannot be read. The message says which kinds of cache need none.
    """
    if name.startswith("offline:"):
        return _read_offline(name)
    folder = fetch_beside(name, teacher_folder(name), BESIDE)
    config = _json(folder / "config.json")
    tensors = read_tensors(folder, lambda tensor: ".encoder." not in f".{tensor}")
    for prefix in PREFIXES:
        if f"{prefix}embed_tokens.weight" in tensors:
            mine = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
            break
    else:
        raise NotThere(
            f"--teacher {name}: its weights hold no decoder, so it cannot tell word times. Take "
            f"the whole model, or give word times in the tars' .json. {OTHER_KINDS}"
        )
    shape = _shape(config, folder / "config.json")
    generation = folder / "generation_config.json"
    generating = _json(generation) if generation.is_file() else {}
    multilingual = generating.get("is_multilingual", shape.vocab_size >= MULTILINGUAL_VOCABULARY)
    told = generating.get("alignment_heads") or config.get("alignment_heads")
    heads = _heads(told, shape, name, generation)
    return DecoderFiles(shape, heads, bool(multilingual), mine, folder)


def _read_offline(name: str) -> DecoderFiles:
    model = offline_model(name)
    tensors = decoder_tensors(read_variables(model))
    vocabulary, d_model = tensors["embed_tokens.weight"].shape
    shape = DecoderShape(
        d_model=d_model,
        decoder_layers=1 + max(int(n.split(".")[1]) for n in tensors if n.startswith("layers.")),
        decoder_attention_heads=d_model // HEAD_WIDTH,
        decoder_ffn_dim=len(tensors["layers.0.fc1.bias"]),
        vocab_size=vocabulary,
        max_target_positions=len(tensors["embed_positions.weight"]),
    )
    path = model.folder / "config.json"
    heads = _heads(_json(path).get("alignment_heads"), shape, name, path)
    multilingual = vocabulary >= MULTILINGUAL_VOCABULARY
    return DecoderFiles(shape, heads, multilingual, tensors, model.folder)


def _json(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_text_file(path))
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} cannot be read ({error}); fetch it again.") from None
    if not isinstance(record, dict):
        raise Damaged(f"{path} is not an object; fetch it again.")
    return record


def _shape(config: Mapping[str, Any], path: Path) -> DecoderShape:
    names = [f.name for f in fields(DecoderShape)]
    for name in names:
        value, largest = config.get(name), getattr(LARGEST, name)
        if type(value) is not int or not 1 <= value <= largest:
            raise Damaged(f"{path}: {name} is {value!r}; a whole number up to {largest:,} is read.")
    shape = DecoderShape(**{name: config[name] for name in names})
    if shape.d_model % shape.decoder_attention_heads:
        raise Damaged(
            f"{path}: d_model {shape.d_model} is no multiple of decoder_attention_heads "
            f"{shape.decoder_attention_heads}."
        )
    return shape


def _heads(told: Any, shape: DecoderShape, name: str, path: Path) -> AlignmentHeads:
    """The alignment heads in the order of layers, each once.

    Raises:
        NotThere: the teacher tells none.
        Damaged: they are no pairs of a layer and a head that it has.
    """
    if not told:
        raise NotThere(
            f"--teacher {name}: {path.name} lists no alignment_heads, so nobody knows which of its "
            "heads follow the audio, and it cannot tell word times. Copy the model's own "
            f"generation_config.json there, or give word times in the tars' .json. {OTHER_KINDS}"
        )
    try:
        pairs = sorted({(layer, head) for layer, head in told})
        wrong: list[Any] = [
            (layer, head)
            for layer, head in pairs
            if type(layer) is not int
            or type(head) is not int
            or not 0 <= layer < shape.decoder_layers
            or not 0 <= head < shape.decoder_attention_heads
        ]
    except (TypeError, ValueError):
        wrong, pairs = [json.dumps(told)[:80]], []
    if wrong:
        raise Damaged(
            f"{path}: alignment_heads has {wrong[0]}; a decoder of {shape.decoder_layers} layers "
            f"with {shape.decoder_attention_heads} heads needs pairs of [layer, head], from 0."
        )
    return tuple(pairs)
