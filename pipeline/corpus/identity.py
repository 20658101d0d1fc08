"""Digests of what a student read: its texts as tokens, and the tokenizer that made them."""

import hashlib
import json

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.corpus import Corpus
from pipeline.foundation.hashing import json_sha256

AT_ONCE = 2**24


def texts_sha256(corpus: Corpus) -> str:
    """Digest of a corpus's tokens, clip by clip, and of the recordings that clips are of.

    Two students with equal digests read the same texts in the same tokens, whatever vectors their
    caches hold beside them.
    """
    digest = hashlib.sha256()
    for tensor in (corpus.ids_N, corpus.lengths_C, corpus.recording_C):
        _add(digest, tensor)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", tensor: Tensor) -> None:
    digest.update(f"{tensor.dtype} {len(tensor)}\n".encode())
    for part in torch.split(tensor, AT_ONCE):  # a mapped corpus never lies in memory as a whole
        digest.update(part.contiguous().numpy().data)


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the rules and pieces that decide a text's ids, wherever they were loaded from."""
    kind = [type(tokenizer).__name__, tokenizer("a")["input_ids"]]
    if not tokenizer.is_fast:
        return json_sha256([*kind, tokenizer.get_vocab()])
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules.update(truncation=None, padding=None)
    return json_sha256([*kind, rules])
