"""A frozen text encoder: transcripts in, one state per token out. It cannot train.

Shapes: B texts, L tokens of the longest text of a pass, N tokens of all texts, E width.

Source: Chung, Zhu and Zeng 2021, "SPLAT", section 3: the states of BERT, which are what a speech
encoder is aligned to. A text gets what the library gives it alone, whatever texts lie beside it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from pipeline.extraction.weights import tensors_sha256
from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import counted
from pipeline.models.checking import find_reading
from pipeline.models.loading import load_model, load_tokenizer, panics_as_errors
from pipeline.models.packing import batches_by_length
from pipeline.models.padding import padding_id
from pipeline.models.texts import all_composed

TOKENS_PER_PASS = (1024, 32_768)
"""Tokens that go through the encoder at once, on a CPU and on a GPU. Texts of like length go
together."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of some texts.

    Attributes:
        ids: ids of each text, special tokens included.
        cut: places of the texts that had more tokens than allowed.
    """

    ids: list[list[int]]
    cut: frozenset[int]


@dataclass(frozen=True)
class TextTeacher:
    """Texts in, states out; built by `load_text_teacher`.

    Attributes:
        id: name that the user gave; of a local folder only its own name.
        sha256: digest of the encoder's tensors.
        tokenizer_sha256: digest of all that a text's ids depend on.
        model: the library's encoder.
        tokenizer: its tokenizer.
        layer: number of the layer whose states are read; 0 is the embedding.
        last: whether it is the last one, whose states are `last_hidden_state`.
        lowercase: whether texts are lower-cased first.
        max_tokens: tokens of the longest text; longer ones are cut.
        one_length: whether texts of one length only go together, because padding changes states.
        device: where it computes.
    """

    id: str
    sha256: str
    tokenizer_sha256: str
    model: Any
    tokenizer: Any
    layer: int
    last: bool
    lowercase: bool
    max_tokens: int
    one_length: bool
    device: torch.device

    @property
    def d_model(self) -> int:
        """Width of the states."""
        return int(self.model.config.hidden_size)

    def tokens_of(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, composed, with the tokenizer's own special tokens."""
        if not texts:
            return Tokens([], frozenset())
        texts = all_composed(texts)
        texts = [text.lower() for text in texts] if self.lowercase else texts
        with panics_as_errors(self.id):
            ids: list[list[int]] = self.tokenizer(texts)["input_ids"]
            long = [place for place, row in enumerate(ids) if len(row) > self.max_tokens]
            if long:
                cut = self.tokenizer(
                    [texts[place] for place in long], truncation=True, max_length=self.max_tokens
                )
                for place, row in zip(long, cut["input_ids"], strict=True):
                    ids[place] = row
        return Tokens(ids, frozenset(long))

    @torch.inference_mode()
    @ieee_float32()
    def states_of(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """States of texts, one text behind the other.

        Args:
            ids: token ids of each text, at least one each.

        Returns:
            float32 `[N, E]`, on the teacher's device.
        """
        lengths = [len(row) for row in ids]
        starts = [0, *torch.tensor(lengths).cumsum(0).tolist()]
        states_NE = torch.empty(starts[-1], self.d_model, device=self.device)
        for chosen in self._batches(lengths):
            longest = max(lengths[place] for place in chosen)
            ids_BL = torch.full((len(chosen), longest), padding_id(self.model))
            for row_L, place in zip(ids_BL, chosen, strict=True):
                row_L[: lengths[place]] = torch.tensor(ids[place])
            lengths_B = torch.tensor([lengths[place] for place in chosen])
            valid_BL = torch.arange(longest) < lengths_B[:, None]
            source_n = valid_BL.flatten().nonzero()[:, 0]
            target_n = torch.cat(
                [torch.arange(starts[place], starts[place + 1]) for place in chosen]
            )
            # the library looks whether a mask hides anything, which has to be waited for
            mask_BL = self._here(valid_BL.long()) if not valid_BL.all() else None
            hidden_BLE = self._read(self._here(ids_BL), mask_BL)
            rows_nE = hidden_BLE.flatten(0, 1).index_select(0, self._here(source_n))
            states_NE.index_copy_(0, self._here(target_n), rows_nE.float())
        return states_NE

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of texts that go through the encoder together."""
        for chosen in batches_by_length(lengths, TOKENS_PER_PASS[self.device.type != "cpu"]):
            if self.one_length:
                for _, group in groupby(chosen, key=lengths.__getitem__):
                    yield list(group)
            else:
                yield chosen

    def _read(self, ids_BL: torch.Tensor, mask_BL: torch.Tensor | None) -> torch.Tensor:
        output = self.model(
            input_ids=ids_BL, attention_mask=mask_BL, output_hidden_states=not self.last
        )
        states: torch.Tensor = (
            output.last_hidden_state if self.last else output.hidden_states[self.layer]
        )
        return states

    def _here(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device; the copy to a GPU is not waited for."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def load_text_teacher(
    name: str,
    *,
    device: str | torch.device = "cpu",
    layer: int = -1,
    lowercase: bool = True,
    max_tokens: int = 128,
) -> TextTeacher:
    """Load a text encoder and its tokenizer, frozen, onto a device; it computes in float32.

    Args:
        name: Hugging Face id, a folder that `save_pretrained` wrote, or the run folder of a
            distillation, whose `student/` is taken.
        device: where to compute.
        layer: number of the layer whose states are read; -1 for the last one.
        lowercase: whether texts are lower-cased first.
        max_tokens: tokens of the longest text, special tokens included; longer ones are cut.

    Raises:
        SpeechkdError: it cannot be read or used. The message says why.
    """
    from transformers import AutoModel

    source = _source(name)
    model = load_model(AutoModel, source)
    if getattr(model.config, "is_encoder_decoder", False):
        raise SpeechkdError(
            f"--teacher {name} is an encoder with a decoder; name a text encoder, such as "
            "bert-base-uncased."
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # not read, and drawn at random where a checkpoint has none
    tokenizer = _tokenizer(name, source)
    layers = int(model.config.num_hidden_layers)
    if layer > layers:
        raise SpeechkdError(f"--layer {layer}: --teacher {name} has {counted(layers, 'layer')}.")
    _check_fit(name, model, tokenizer, max_tokens)
    reading = find_reading(model, f"--teacher {name}", ("padded", "one length"))
    if reading.most_tokens is not None and max_tokens > reading.most_tokens:
        raise SpeechkdError(
            f"--max-tokens {max_tokens}: --teacher {name} has positions for {reading.most_tokens} "
            "tokens. Lower it."
        )
    device = torch.device(device)
    return TextTeacher(
        id=Path(name).expanduser().resolve().name if Path(name).expanduser().is_dir() else name,
        sha256=tensors_sha256(model.state_dict()),
        tokenizer_sha256=json_sha256(_told(tokenizer)),
        model=model.float().eval().requires_grad_(False).to(device),
        tokenizer=tokenizer,
        layer=layers if layer < 0 else layer,
        last=layer in (-1, layers),
        lowercase=lowercase,
        max_tokens=max_tokens,
        one_length=reading.layout == "one length",
        device=device,
    )


def _source(name: str) -> str:
    """The folder of a run's student, or the name itself."""
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file() and (folder / "student").is_dir():
        return str(folder / "student")
    return str(folder) if folder.is_dir() else name


def _tokenizer(name: str, source: str) -> Any:
    try:
        return load_tokenizer(source)
    except NotThere as error:
        raise NotThere(
            f"--teacher {name} has no tokenizer, without which texts cannot become its tokens: "
            f"{error}"
        ) from None


def _check_fit(name: str, model: Any, tokenizer: Any, max_tokens: int) -> None:
    embedded = model.get_input_embeddings().weight.shape[0]
    wanted = max(tokenizer.get_vocab().values(), default=-1) + 1
    if wanted > embedded:
        raise SpeechkdError(
            f"--teacher {name}: its tokenizer has {wanted:,} tokens, but the model embeds "
            f"{embedded:,}. Are both of one model?"
        )
    around = len(tokenizer("")["input_ids"])
    if max_tokens <= around:
        raise SpeechkdError(
            f"--max-tokens {max_tokens} leaves no room beside {around} special ones."
        )


def _told(tokenizer: Any) -> list[Any]:
    """Everything that a text's ids depend on, wherever the tokenizer was loaded from."""
    kind = [type(tokenizer).__name__, list(tokenizer("a")["input_ids"])]
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        return [*kind, {**rules, "truncation": None, "padding": None}]
    return [*kind, dict(sorted(tokenizer.get_vocab().items()))]
