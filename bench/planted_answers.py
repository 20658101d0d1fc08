"""Can a reader find where a spoken passage answers a question? Facts said by eSpeak NG.

    python -m bench.planted_answers corpus --out DIR
    python -m bench.planted_answers models --out DIR
    python -m bench.planted_answers table --out DIR

A passage is four sentences of four people, such as "anna lives in rome", each a recording of its
own; a question ("where does anna live") is answered by the last word of one of them. The last word
is spoken apart, so where it begins is known to the sample. Each relation stands once in a passage,
and its answers are drawn anew. So whoever hears no passage, or reads no question, can do no better
than pick one of four answers. Frames, masked audio and fine-tuning go through the commands.
docs/splat.md describes it and has its figures.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.corpus.tokenization import train_wordpiece
from pipeline.extraction.settings import FeatureSettings
from pipeline.foundation.atomic import write_json
from pipeline.foundation.provenance import record as provenance
from pipeline.foundation.units import SAMPLE_RATE_HZ
from pipeline.pretraining.splat.settings import MaskedAudioSettings
from pipeline.reports.cells import read_results
from pipeline.reports.tables import summary
from pipeline.shards.settings import ShardSettings
from pipeline.tasks.planted.speech import Synthesizer
from stages import extract_features, finetune_audio_spans, pretrain_splat, shard

NAMES = ("anna", "ben", "carla", "david", "emma", "frank", "grace", "henry")
RELATIONS = {
    "lives in": ("where does {} live", ("rome", "london", "paris", "berlin", "oslo", "madrid")),
    "eats": ("what does {} eat", ("bread", "cheese", "soup", "salad", "cake", "rice")),
    "plays the": ("what does {} play", ("piano", "guitar", "drums", "violin", "flute", "organ")),
    "owns a": ("what does {} own", ("horse", "tractor", "boat", "castle", "garden", "bicycle")),
}
VOICES = ("en-us", "en-us+boris", "en-gb-x-rp+linda")
PASSAGES = {"train": 260, "valid": 30, "test": 60}
PAUSE_S = 0.1
SHAPE: dict[str, Any] = {"layers": 2, "width": 64, "heads": 4, "stack": 4, "dropout": 0.0}


def corpus(out: Path, passages: dict[str, int], seed: int) -> None:
    """Speak the passages and cache their frames."""
    synthesizer, rng = Synthesizer(), np.random.default_rng(seed)
    known: dict[tuple[str, str], np.ndarray] = {}

    def say(text: str, voice: str) -> np.ndarray:
        if (text, voice) not in known:
            known[text, voice] = trimmed(synthesizer.speak(text, voice=voice))
        return known[text, voice]

    wavs = out / "wavs"
    wavs.mkdir(parents=True, exist_ok=True)
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    sentences: list[list[str]] = []
    questions: list[list[str | float]] = []
    parts: list[list[str]] = []
    for split, count in passages.items():
        for number in range(count):
            passage, voice = f"{split}-{number}", VOICES[number % len(VOICES)]
            people = rng.permutation(NAMES)[: len(RELATIONS)]
            at = 0
            for place, which in enumerate(rng.permutation(len(RELATIONS))):
                relation, (question, values) = list(RELATIONS.items())[which]
                name, value = people[place], str(rng.choice(values))
                before, after = say(f"{name} {relation}", voice), say(value, voice)
                wave = np.concatenate([pause, before, after, pause])
                key = f"{passage}-{place}"
                soundfile.write(wavs / f"{key}.wav", wave, SAMPLE_RATE_HZ)
                begins = at + len(pause) + len(before)
                ends = begins + len(after)
                sentences.append([f"{key}.wav", f"{name} {relation} {value}", voice, key])
                parts.append([passage, key])
                times = begins / SAMPLE_RATE_HZ, ends / SAMPLE_RATE_HZ
                questions.append([key, question.format(name), passage, *times, split])
                at += len(wave)
    write(wavs / "table.csv", ["path", "text", "speaker", "key"], sentences)
    write(out / "passages.csv", ["passage", "clip"], parts)
    names = ["question_id", "question", "passage", "answer_start_s", "answer_end_s", "split"]
    write(out / "questions.csv", names, questions)
    shards = out / "shards"
    shard.run(ShardSettings(source=str(wavs / "table.csv"), out=shards, workers=1))
    extract_features.run(
        FeatureSettings(
            manifest=str(shards / "manifest.jsonl"), features="whisper-mel", cache=str(out / "mels")
        )
    )


def trimmed(wave: np.ndarray) -> np.ndarray:
    """A wave without the silence before and after it."""
    (loud,) = np.nonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    return np.asarray(wave[loud[0] : loud[-1] + 1])


def write(path: Path, names: list[str], rows: Sequence[Sequence[str | float]]) -> None:
    """A table as CSV."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])


def models(out: Path, seeds: str, epochs: int, masked_epochs: float) -> None:
    """Train a speech module on the frames, and fine-tune it with its controls."""
    speech, tokenizer = out / "speech", out / "tokenizer"
    with (out / "questions.csv").open(newline="") as file:
        texts = [row["question"] for row in csv.DictReader(file) if row["split"] == "train"]
    train_wordpiece(lambda: texts, 500, lowercase=True, max_tokens=32).save_pretrained(tokenizer)
    pretrain_splat.masked_audio(
        MaskedAudioSettings(
            frames=str(out / "mels"), out=speech, epochs=masked_epochs, batch=32, held_out=0.0,
            device="cpu", learning_rate=2e-3, checkpoint_minutes=0.0, **SHAPE
        )
    )  # fmt: skip
    finetune_audio_spans.run(
        finetune_audio_spans.AudioSpansSettings(
            data=[str(out / "questions.csv")], passages=out / "passages.csv",
            cache=str(out / "mels"), out=out / "results", tokenizer=str(tokenizer), seeds=seeds,
            epochs=epochs, learning_rate=1e-3, device="cpu", dropout=0.0,
            checkpoint=[
                f"Speech={speech}", f"Speech shuffled=shuffled:{speech}",
                f"Speech blind=blind:{speech}",
            ],
        )
    )  # fmt: skip
    write_json(out / "provenance.json", provenance())


def main() -> None:
    """Run one of the three steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=["corpus", "models", "table"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--masked-epochs", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.step == "corpus":
        corpus(options.out, PASSAGES, options.seed)
    elif options.step == "models":
        models(options.out, options.seeds, options.epochs, options.masked_epochs)
    else:
        print(summary(read_results(options.out / "results")), end="")


if __name__ == "__main__":
    main()
