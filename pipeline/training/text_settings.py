"""How a text encoder is asked for: its size, its tokenizer, its texts, what is masked of them.

Methods that train one declare these fields with `like`, which keeps bounds and units and lets them
say where their own defaults come from.
"""

from dataclasses import dataclass

from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """A text encoder with fresh weights, and what it reads."""

    vocab_size: int = setting(
        30522,
        help="Largest number of pieces of a new WordPiece.",
        minimum=100,
        origin="assumed",
        idle_without="a new tokenizer",
    )
    lowercase: bool = setting(
        True,
        help="Drop case in a new WordPiece. Accents, vowel signs and dakuten stay.",
        origin="assumed",
        idle_without="a new tokenizer",
    )
    dropout: float = setting(
        0.1,
        help="Dropout of hidden states; attention drops nothing.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer texts are cut and counted.",
        unit="tokens",
        minimum=4,
        maximum=512,
        origin="assumed",
    )
    mask_share: float = setting(
        0.15,
        help="Share of tokens to predict: 80 % of them masked, 10 % replaced, 10 % kept.",
        minimum=0.01,
        maximum=0.9,
        origin="assumed",
    )
