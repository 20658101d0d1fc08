"""Clips per second of one fine-tuning cell: packed here, against Hugging Face's Trainer.

Three ways have the same texts, encoder, batch size, loss, optimiser and number of steps: speechkd
(packed), Trainer with batches padded to 128 tokens, and Trainer with batches padded to their
longest text and lengths grouped. The ways take turns, so that other load on the machine meets all
of them; the best round of each counts.

    python bench/finetune.py ENCODER DATA.csv [--clips 512] [--rounds 3] [--threads 2]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

from pipeline.finetuning.inputs import TextInputs, tokenize
from pipeline.finetuning.settings import FinetuneSettings, Recipe
from pipeline.finetuning.trainer import train_cell
from pipeline.foundation.provenance import record
from pipeline.models.encoders import load_pretrained
from pipeline.tasks.mosei.questions import TASKS, targets
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.task import Question

MAX_TOKENS = 128
TASK = TASKS["sentiment7"]


def ours(
    encoder: str, inputs: TextInputs, labels: np.ndarray, recipe: Recipe, device: str
) -> float:
    _, model, _ = load_pretrained(encoder)
    model.to(device)
    places = {"train": range(len(labels)), "valid": [], "test": []}
    split = {"train": labels, "valid": labels[:0], "test": labels[:0]}
    return train_cell(model, inputs, Question(TASK, places, split, []), recipe, 0).seconds


def trainer(
    encoder: str,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[np.ndarray],
    labels: np.ndarray,
    recipe: Recipe,
    device: str,
    grouped: bool,
) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=len(TASK.outputs)
    )
    rows = [
        {"input_ids": row.tolist(), "labels": int(label)}
        for row, label in zip(ids, labels, strict=True)
    ]
    if grouped:
        collator = DataCollatorWithPadding(tokenizer)
    else:
        collator = DataCollatorWithPadding(tokenizer, padding="max_length", max_length=MAX_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_steps=recipe.warmup_fraction,
            max_grad_norm=recipe.clip_norm,
            bf16=recipe.precision == "bf16",
            use_cpu=device == "cpu",
            train_sampling_strategy="group_by_length" if grouped else "random",
            save_strategy="no",
            report_to=[],
            logging_strategy="no",
            disable_tqdm=True,
        )
        run = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collator,
            processing_class=tokenizer,
        )
        started = time.monotonic()
        run.train()
        return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", help="a distill run, a Hugging Face folder or a hub id")
    parser.add_argument("data", type=Path, help="labels of CMU-MOSEI, as for finetune mosei")
    parser.add_argument("--clips", type=int, default=512, help="clips to train on")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = FinetuneSettings(
        checkpoint=[options.encoder],
        out=Path(),
        epochs=options.epochs,
        max_tokens=MAX_TOKENS,
        precision=options.precision,
    ).recipe()
    clips = read_mosei(options.data).of("train")[: options.clips]
    _, _, tokenizer = load_pretrained(options.encoder)
    inputs = tokenize(tokenizer, [clip.text for clip in clips], MAX_TOKENS)
    ids = list(inputs.ids)
    labels = targets(clips, TASK)[1]
    ways: dict[str, Callable[[], float]] = {
        "speechkd, packed": lambda: ours(options.encoder, inputs, labels, recipe, device),
        "Trainer, padded to 128": lambda: trainer(
            options.encoder, tokenizer, ids, labels, recipe, device, grouped=False
        ),
        "Trainer, dynamic padding, grouped": lambda: trainer(
            options.encoder, tokenizer, ids, labels, recipe, device, grouped=True
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    count = len(ids) * options.epochs
    best = {name: count / min(times) for name, times in seconds.items()}
    mean_tokens = float(np.mean([len(row) for row in ids]))
    print(f"{count} clips of {mean_tokens:.1f} tokens on average, best of {options.rounds} rounds")
    for name, rate in best.items():
        print(f"  {name:36} {rate:8.1f} clips/s   ours is {best['speechkd, packed'] / rate:.2f} ×")
    provenance = record()
    print(json.dumps({k: provenance[k] for k in ("git_commit", "versions", "hardware")}))


if __name__ == "__main__":
    main()
