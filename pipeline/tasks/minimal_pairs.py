"""Minimal pairs: which of two sentences a masked LM finds likelier, by pseudo-log-likelihood.

Each token is masked once, and the log-probabilities of the true tokens are added up. A token is
masked alone (Salazar et al. 2020), or together with the later tokens of its word (PLL-word-l2r,
Kauf & Ivanova 2023), because the rest of a rare word gives each of its tokens away. Logits are
float32, and a tie counts one half: in bfloat16 there are many ties, and to count them as right
flatters a model.

Shapes: N tokens in all, K scored tokens, M masked ones, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.seeds import derive
from pipeline.models.copies import encode_copies
from pipeline.models.lengths import to_device
from pipeline.models.loading import panics_as_errors
from pipeline.models.packing import batches_by_length, pack
from pipeline.models.student import Student
from pipeline.models.texts import all_composed

TOKENS_PER_BATCH = 8192

Masking: TypeAlias = Literal["token", "word-l2r"]

DEFINITIONS: dict[Masking, str] = {
    "token": "pseudo-log-likelihood in float32, each token masked alone; a tie is 1/2",
    "word-l2r": (
        "pseudo-log-likelihood in float32, each token masked with the later tokens of its word "
        "(PLL-word-l2r, Kauf & Ivanova 2023); a tie is 1/2"
    ),
}
"""What each way of masking measures, for records."""


@torch.inference_mode()
def log_likelihoods(
    student: Student,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    advance: Callable[[int], None] = lambda _texts: None,
    masking: Masking = "token",
) -> list[float]:
    """Pseudo-log-likelihood of each text, in nats.

    Args:
        student: a masked-LM encoder, on the device to run on.
        tokenizer: its tokenizer; the special tokens that it adds are never masked.
        texts: the texts.
        advance: called with the number of texts that each batch finishes, for progress.
        masking: what is masked with a token: nothing else, or the later tokens of its word.

    Raises:
        SpeechkdError: a text has no token, or more than the encoder can read; or the tokenizer does
            not tell which tokens are of one word.
    """
    texts = all_composed(texts)
    student.eval()
    device = next(student.parameters()).device
    longest = student.reading.most_tokens or 10**9
    with panics_as_errors("the texts"):
        encoded = tokenizer(list(texts), return_special_tokens_mask=True, verbose=False)
    rows = [np.asarray(ids, np.int64) for ids in encoded["input_ids"]]
    places = [np.flatnonzero(np.asarray(m) == 0) for m in encoded["special_tokens_mask"]]
    for text, row, place in zip(texts, rows, places, strict=True):
        if not len(place) or len(row) > longest:
            raise SpeechkdError(
                f"{text[:80]!r} has {counted(len(row), 'token')}, the tokenizer's special ones "
                "included; it "
                f"must be 1 to {longest}, at least one of them not special."
            )
    ends = [place + 1 for place in places]
    if masking == "word-l2r":
        ends = [
            word_ends(encoded.word_ids(i) if tokenizer.is_fast else [], text)[place]
            for i, (text, place) in enumerate(zip(texts, places, strict=True))
        ]
    sums = np.zeros(len(texts), np.float64)
    tokens = [len(row) * len(place) for row, place in zip(rows, places, strict=True)]
    for batch in _mixed(list(batches_by_length(tokens, TOKENS_PER_BATCH))):
        copies = [np.repeat(rows[i][None], len(places[i]), 0) for i in batch]
        lengths = np.concatenate([np.full(len(places[i]), len(rows[i])) for i in batch])
        inside = np.concatenate([places[i] for i in batch])
        first_K = np.cumsum(lengths) - lengths
        masked_K = first_K + inside
        count_K = np.concatenate([ends[i] for i in batch]) - inside
        hidden_M = np.repeat(masked_K - np.cumsum(count_K) + count_K, count_K)
        hidden_M += np.arange(len(hidden_M))
        ids_N = np.concatenate([copy.reshape(-1) for copy in copies])
        truth_K = to_device(torch.from_numpy(ids_N[masked_K]), device)
        ids_N[hidden_M] = tokenizer.mask_token_id
        packed = pack(torch.from_numpy(ids_N), torch.from_numpy(lengths)).to(device)
        asked_K = to_device(torch.from_numpy(masked_K), device)
        hidden_KD = encode_copies(student.encoder, packed, asked_K)
        logits_KV = student.masked_lm_logits(hidden_KD).float()
        true_K = logits_KV.log_softmax(1).gather(1, truth_K[:, None])[:, 0]
        owner_K = np.repeat(batch, [len(places[i]) for i in batch])
        np.add.at(sums, owner_K, true_K.double().cpu().numpy())
        advance(len(batch))
    return [float(total) for total in sums]


def _mixed(batches: list[list[int]]) -> list[list[int]]:
    """The batches in an order in which the first ones are like the rest.

    The shortest texts come first from `batches_by_length`, many per batch, so that an estimate of
    the time left by the number of texts would be far too short.
    """
    order = np.random.default_rng(derive("order of batches", len(batches))).permutation(
        len(batches)
    )
    return [batches[place] for place in order.tolist()]


def word_ends(words: Sequence[int | None], text: str) -> Array:
    """For each token of a text, the place behind the last token of its word.

    Args:
        words: the number of each token's word, None for special tokens, as Hugging Face's fast
            tokenizers tell it; empty from a slow one.
        text: the text, for the check and its message.

    Raises:
        SpeechkdError: the tokenizer knows no words: it is slow, or a text of several words is one.
    """
    known = {word for word in words if word is not None}
    if not known or (len(known) == 1 and len(text.split()) > 1):
        raise SpeechkdError(
            f"--masking word-l2r needs a tokenizer that tells which tokens are of one word, and "
            f"this one does not (of {text[:60]!r}); use --masking token."
        )
    ends = np.arange(1, len(words) + 1)
    for place in range(len(words) - 2, -1, -1):
        if words[place] is not None and words[place] == words[place + 1]:
            ends[place] = ends[place + 1]
    return ends
