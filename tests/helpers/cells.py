"""What a cell is made of in tests: made sentences, their labels, and a short recipe."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.finetuning.inputs import TextInputs, tokenize
from pipeline.finetuning.settings import FinetuneSettings
from pipeline.models.encoders import load_pretrained
from pipeline.tasks.mosei.questions import TASKS
from pipeline.tasks.splits import SPLITS
from pipeline.tasks.task import Question
from tests.helpers.encoders import save_encoder
from tests.helpers.mosei import sentences

RECIPE = FinetuneSettings(
    checkpoint=["an encoder"],
    out=Path(),
    epochs=2,
    learning_rate=3e-3,
    batch_size=16,
    max_tokens=40,
    precision="float32",
).recipe()


def encoder(folder: Path) -> Any:
    """An encoder and its tokenizer that know the words of the made sentences."""
    save_encoder(folder, [text for text, _ in sentences(200)])
    return load_pretrained(str(folder))[1:]


def data_for(
    tokenizer: Any,
    task: str = "sentiment2-with-neutral",
    sizes: tuple[int, int, int] = (192, 32, 64),
) -> tuple[TextInputs, Question]:
    """As many sentences for training, validation and test, and a question with their labels."""
    made = sentences(sum(sizes))
    inputs = tokenize(tokenizer, [text for text, _ in made], 40)
    values = np.array([value for _, value in made])
    labels = values.astype(np.float32) if task == "sentiment" else (values > 0).astype(np.int64)
    if task == "emotions":
        labels = np.stack([labels, 1 - labels] * 3, 1)
    ends = np.cumsum([0, *sizes]).tolist()
    places = {split: range(a, b) for split, a, b in zip(SPLITS, ends, ends[1:], strict=False)}
    by_split = {split: labels[list(inside)] for split, inside in places.items()}
    return inputs, Question(TASKS[task], places, by_split, [""] * sizes[2])
