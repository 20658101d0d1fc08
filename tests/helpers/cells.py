"""What a cell is made of in tests: made sentences, their labels, and a short recipe."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.finetuning.cell import Examples, tokenize
from pipeline.finetuning.grid import recipe_of
from pipeline.finetuning.settings import FinetuneSettings
from pipeline.models.encoders import load_pretrained
from tests.helpers.encoders import save_encoder
from tests.helpers.mosei import sentences

RECIPE = recipe_of(
    FinetuneSettings(
        checkpoint=["an encoder"],
        out=Path(),
        epochs=2,
        learning_rate=3e-3,
        batch_size=16,
        max_tokens=40,
        precision="fp32",
    )
)


def encoder(folder: Path) -> Any:
    """An encoder and its tokenizer that know the words of the made sentences."""
    save_encoder(folder, [text for text, _ in sentences(200)])
    return load_pretrained(str(folder))[1:]


def data_for(tokenizer, task="sentiment2-with-neutral", sizes=(192, 32, 64)):
    """Tokens and labels of as many sentences for training, validation and test."""
    made = sentences(sum(sizes))
    ids = tokenize(tokenizer, [text for text, _ in made], 40).ids
    values = np.array([value for _, value in made])
    labels = values.astype(np.float32) if task == "sentiment" else (values > 0).astype(np.int64)
    if task == "emotions":
        labels = np.stack([labels, 1 - labels] * 3, 1)
    ends = np.cumsum([0, *sizes])
    return {
        split: Examples(ids[a:b], labels[a:b])
        for split, a, b in zip(("train", "valid", "test"), ends, ends[1:], strict=False)
    }
