"""Text-only students: any Hugging Face masked-LM encoder, run on packed sequences.

The masked-LM head sees masked positions only. The model is Hugging Face's own, so a trained
student loads anywhere without conversion.

Shapes: N tokens in all, D width, K chosen positions, V vocabulary.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput

from pipeline.foundation.errors import Damaged, SpeechkdError, unless_of_memory
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.checking import check_head, find_reading
from pipeline.models.dropout import hash_dropout
from pipeline.models.loading import check_config, load_model, load_tokenizer, quiet
from pipeline.models.packing import Packed, add_rows, encode_packed, spare_rows

PRESETS: dict[str, dict[str, int]] = {
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    "bert-small": {"num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 8},
    "bert-mini": {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4},
    "bert-tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2},
}
"""BERT's own family of sizes (Devlin et al. 2018; Turc et al. 2019); `bert-base` is the paper's."""

NO_LABEL = -100
"""What stands for the label of a row that only fills a batch."""


class _ComputedStates(nn.Module):
    """Stands in for the encoder of a masked-LM model; passes on states computed elsewhere."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        return _StatesAlone(last_hidden_state=inputs_embeds)


class _StatesAlone(BaseModelOutput):  # type: ignore[misc]
    """Hidden states, and None for whatever else a kind's head passes on."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class Student(nn.Module):
    """A masked-LM encoder that takes packed sequences.

    Args:
        model: any Hugging Face masked-LM model of which docs/encoders.md says that it can be used.
            Whether it can, and how, is found out here (`pipeline.models.checking`).
        name: what messages call it.

    Raises:
        SpeechkdError: it gives other states for several texts at once than for each alone, or its
            head cannot be run apart from it.
    """

    def __init__(self, model: PreTrainedModel, name: str = "this student") -> None:
        super().__init__()
        self.model = model
        self.encoder: PreTrainedModel = model.base_model
        self.reading = find_reading(self.encoder, name)
        self.draws = hash_dropout(self.encoder)
        head = copy.copy(model)
        head._modules = {**model._modules, model.base_model_prefix: _ComputedStates()}
        self._head = (head,)  # in a tuple, so that its parameters are not registered twice
        check_head(model, self.masked_lm_logits, name)

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return int(self.model.config.hidden_size)

    def forward(self, packed: Packed) -> Tensor:
        """Hidden states `[N, D]` of the last layer."""
        return encode_packed(self.encoder, packed)

    def save(self, folder: Path) -> None:
        """Save the model as Hugging Face does, with its head and without a progress bar."""
        with quiet():
            self.model.save_pretrained(folder)

    def check_fits(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        """Check that the model has an embedding for every token and every position.

        Raises:
            SpeechkdError: it lacks one.
        """
        _check_vocabulary(self.encoder, tokenizer)
        most = self.reading.most_tokens
        if most is not None and max_tokens > most:
            raise SpeechkdError(
                f"--max-tokens {max_tokens}: the student has positions for {most} tokens. Lower it."
            )

    def masked_lm_logits(self, hidden_KD: Tensor) -> Tensor:
        """Vocabulary logits `[K, V]` of chosen hidden states, through the model's own head."""
        logits_1KV: Tensor = self._head[0](inputs_embeds=hidden_KD[None]).logits
        return logits_1KV[0]

    def masked_lm_loss(self, hidden_ND: Tensor, ids_N: Tensor, chosen_K: Tensor) -> Tensor:
        """Cross-entropy in nats, float32, summed over the chosen tokens.

        Args:
            hidden_ND: hidden states of the masked tokens.
            ids_N: the tokens as they are without masks.
            chosen_K: places of those to be predicted.
        """
        spare = spare_rows(chosen_K)
        logits_KV = self.masked_lm_logits(add_rows(hidden_ND[chosen_K], spare))
        labels_K = add_rows(ids_N[chosen_K], spare, NO_LABEL)
        return functional.cross_entropy(
            logits_KV.float(), labels_K, reduction="sum", ignore_index=NO_LABEL
        )


def _check_vocabulary(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    embedded = encoder.get_input_embeddings().weight.shape[0]
    wanted = max(tokenizer.get_vocab().values(), default=-1) + 1
    if wanted > embedded:
        raise SpeechkdError(
            f"the tokenizer has {wanted:,} tokens, but the model embeds {embedded:,}. Name the "
            "model's own tokenizer."
        )


def build_student(
    kind: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int, *, dropout: float = 0.1
) -> Student:
    """A student with fresh weights, drawn from torch's global generator: seed it beforehand.

    Args:
        kind: one of the `PRESETS`, or the path of a Hugging Face `config.json`, which keeps its own
            dropout and takes only its vocabulary from the tokenizer.
        tokenizer: decides the vocabulary.
        max_tokens: tokens of the longest sequence.
        dropout: dropout of a preset's hidden states. Its attention drops nothing.

    Raises:
        SpeechkdError: there is no such preset, or the file is no configuration.
    """
    if kind in PRESETS:
        sizes = PRESETS[kind]
        config: Any = BertConfig(
            vocab_size=len(tokenizer),
            intermediate_size=4 * sizes["hidden_size"],
            max_position_embeddings=max(512, max_tokens),
            pad_token_id=tokenizer.pad_token_id,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,  # torch would draw it: see `models.dropout`
            **sizes,
        )
    else:
        config = _configuration(Path(kind))
        config.vocab_size = len(tokenizer)
        config.pad_token_id = tokenizer.pad_token_id
    model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    return Student(model, f"--student {kind}")


def check_kind(kind: str) -> None:
    """Check that `build_student` can build this kind, before any long work is done for it.

    Raises:
        SpeechkdError: there is no such preset, or the file is no configuration.
    """
    if kind not in PRESETS:
        _configuration(Path(kind))


def _configuration(file: Path) -> Any:
    if not file.is_file():
        raise SpeechkdError(
            f"--student {file} is neither one of {', '.join(PRESETS)} nor a config.json."
        )
    try:
        check_config(file)
        config = AutoConfig.for_model(**parse_json(read_text_file(file)))
    except SpeechkdError:
        raise
    except Exception as error:  # transformers raises a different kind for each field
        unless_of_memory(error)
        raise Damaged(
            f"{file} is no Hugging Face model configuration ({error}). It needs a model_type that "
            "transformers knows, such as bert."
        ) from error
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise SpeechkdError(
            f"--student {file}: a {config.model_type} is no masked LM, so no student can be made "
            "of it. docs/encoders.md lists kinds that can be used, such as bert or modernbert."
        )
    return config


def load_student(name: str, *, head: bool = False) -> tuple[Student, PreTrainedTokenizerBase]:
    """Load a masked-LM encoder and its tokenizer.

    Args:
        name: a folder or a hub id.
        head: refuse weights without a masked-LM head; without this, training starts a new head.

    Raises:
        SpeechkdError: nothing of that name can be loaded, or the head is missing.
    """
    student = Student(load_model(AutoModelForMaskedLM, name, head=head), name)
    return student, load_tokenizer(name)


def load_encoder(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder without a head, set to the fastest way that is right, and its tokenizer.

    Raises:
        SpeechkdError: nothing of that name can be loaded, or it gives other states for several
            texts at once than for each alone; the message says why.
    """
    encoder: PreTrainedModel = load_model(AutoModel, name)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # masked-LM checkpoints have none, and it would be drawn at random
    find_reading(encoder, name)
    tokenizer = load_tokenizer(name)
    _check_vocabulary(encoder, tokenizer)
    return encoder, tokenizer
