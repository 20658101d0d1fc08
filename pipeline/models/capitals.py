"""Texts in capitals under a tokenizer of small letters, which spells them letter by letter."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

LOOKED_AT = 500
"""Texts that are looked at."""
SPELLED = 1.3
"""How many times as many tokens as small letters take are called spelling."""


def capitals_doubt(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> str:
    """A warning if most texts are in capitals and take far more tokens so; else empty.

    The transcripts of LibriSpeech and of many other corpora are in capitals.

    Args:
        tokenizer: that reads them.
        texts: of which the first `LOOKED_AT` are looked at.
    """
    some = list(texts[:LOOKED_AT])
    capitals = [text for text in some if text.isupper()]
    if 2 * len(capitals) <= len(some):
        return ""
    as_is, small = (
        sum(map(len, tokenizer(list(form), add_special_tokens=False, verbose=False)["input_ids"]))
        for form in (capitals, [text.lower() for text in capitals])
    )
    if as_is <= SPELLED * small:
        return ""
    return (
        f"WARNING: texts in capitals take {as_is / max(1, small):.1f} times as many tokens as in "
        "small letters, so that words are spelled: make the cache's texts lower-case, or take a "
        "tokenizer that drops case"
    )
