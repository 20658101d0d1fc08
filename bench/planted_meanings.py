"""Does what only a text encoder knows reach a speech module? Categories of unlabelled words.

    python -m bench.planted_meanings corpus --out DIR --nouns A --teacher MINILM
    python -m bench.planted_meanings models --out DIR --nouns A --seeds 0-1
    python -m bench.planted_meanings judge --out DIR --nouns A --seeds 0-1
    python -m bench.planted_meanings table --out DIR

`models` trains and judges, `judge` does the latter alone.

36 English nouns of 6 categories are said by eSpeak NG in one carrier sentence. Sound says nothing
of the category; a text encoder does. Modules are aligned without labels on some voices. A linear
probe on frozen vectors learns the category of half of the words and is asked that of the other
half, both ways, for voices that were heard in alignment and for new ones. Chance is 1/6. All goes
through the commands; what is finished is not done again. docs/splat.md describes it and has its
figures.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from sklearn.linear_model import LogisticRegression

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.rows import RowControl, Sequences, control_rows
from pipeline.extraction.settings import FeatureSettings, TextSettings
from pipeline.finetuning.audio_inputs import AudioClips
from pipeline.finetuning.settings import Pooling
from pipeline.foundation.atomic import write_json
from pipeline.foundation.progress import say
from pipeline.foundation.provenance import record as provenance
from pipeline.foundation.seeds import parse_seeds
from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings
from pipeline.shards.settings import ShardSettings
from pipeline.tasks.planted.answers import gain, share
from pipeline.tasks.planted.speech import Synthesizer
from stages import extract_features, extract_text, pretrain_splat, shard

NOUNS = {
    "A": (
        ("car", "truck", "taxi", "wagon", "lorry", "bus"),
        ("doctor", "surgeon", "nurse", "dentist", "physician", "medic"),
        ("bread", "cheese", "butter", "soup", "salad", "cake"),
        ("song", "melody", "tune", "concert", "opera", "symphony"),
        ("rain", "snow", "storm", "thunder", "hail", "fog"),
        ("money", "cash", "dollar", "salary", "loan", "coin"),
    ),
    "B": (
        ("dog", "cat", "horse", "rabbit", "sheep", "goat"),
        ("chair", "table", "sofa", "desk", "bench", "stool"),
        ("shirt", "jacket", "coat", "dress", "sweater", "trousers"),
        ("apple", "banana", "pear", "cherry", "orange", "grape"),
        ("hammer", "wrench", "drill", "screwdriver", "pliers", "chisel"),
        ("river", "lake", "ocean", "pond", "stream", "canal"),
    ),
    "C": (
        ("king", "queen", "prince", "duke", "emperor", "baron"),
        ("teacher", "pupil", "school", "lesson", "classroom", "homework"),
        ("knife", "sword", "dagger", "pistol", "rifle", "cannon"),
        ("tree", "flower", "bush", "grass", "fern", "moss"),
        ("arm", "leg", "finger", "shoulder", "elbow", "knee"),
        ("red", "yellow", "purple", "green", "brown", "pink"),
    ),
}
POOLINGS: tuple[Pooling, ...] = ("cls", "mean")
CARRIER = "show me the {}"
HEARD = (
    "en-us",
    "en-us+Lee",
    "en-us+boris",
    "en-gb-x-rp+linda",
    "en-gb-x-rp+steph",
    "en-029+travis",
)
NEW = ("en-gb-x-rp+Andy", "en-gb-scotland+adam")
SHAPE: dict[str, Any] = {"layers": 2, "width": 64, "heads": 4, "stack": 8, "dropout": 0.0}
SPEECH_EPOCHS, ALIGN_EPOCHS, BATCH, RATE = 20.0, 100.0, 36, 2e-3
ARMS: dict[str, dict[str, Any] | None] = {
    "Speech": None,
    "Seq": {"align": "seq"},
    "Seq, shuffled": {"align": "seq", "control": "shuffled"},
    "Seq, relabelled": {"align": "seq", "control": "relabelled"},
    "Tok, uniform": {"align": "tok", "token_weights": "uniform"},
    "Tok, idf": {"align": "tok"},
    "Tok-contrast, uniform": {"align": "tok-contrast", "token_weights": "uniform"},
    "Tok, uniform, relabelled": {
        "align": "tok", "token_weights": "uniform", "control": "relabelled",
    },
}  # fmt: skip
CONTROLS = {
    "Seq, cls": "Seq, relabelled, cls",
    "Tok, uniform, mean": "Tok, uniform, relabelled, mean",
    "Tok-contrast, uniform, mean": "Tok, uniform, relabelled, mean",
}
"""What each is compared with; tok-contrast has no control of its own."""


def corpus(out: Path, nouns: str, teacher: str) -> None:
    """Speak the nouns, and cache frames and text states of the heard and of the new voices."""
    synthesizer, folder = Synthesizer(), out / nouns
    for part, voices in (("heard", HEARD), ("new", NEW)):
        wavs = folder / part
        wavs.mkdir(parents=True, exist_ok=True)
        rows = []
        for category, words in enumerate(NOUNS[nouns]):
            for word in words:
                for number, voice in enumerate(voices):
                    key = f"{word}-{part}{number}"
                    wave = synthesizer.speak(CARRIER.format(word), voice=voice)
                    soundfile.write(wavs / f"{key}.wav", wave, 16_000)
                    rows.append([f"{key}.wav", CARRIER.format(word), f"{part}{number}", key])
                    rows[-1].append(str(category))
        with (wavs / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "text", "speaker", "key", "category"], *rows])
        shards = folder / f"{part}-shards"
        shard.run(ShardSettings(source=str(wavs / "table.csv"), out=shards, workers=1))
        mels = str(folder / f"{part}-mel")
        extract_features.run(
            FeatureSettings(
                manifest=str(shards / "manifest.jsonl"), features="whisper-mel", cache=mels
            )
        )
    extract_text.run(
        TextSettings(cache=str(folder / "heard-mel"), teacher=teacher, out=str(folder / "text"))
    )


def models(out: Path, nouns: str, seeds: list[int]) -> None:
    """Train a module per arm and seed, and judge them."""
    folder = out / nouns
    for seed in seeds:
        speech = folder / "runs" / f"Speech-{seed}"
        same: dict[str, Any] = {
            "frames": str(folder / "heard-mel"), "batch": BATCH, "held_out": 0.0, "seed": seed,
            "device": "cpu", "learning_rate": RATE, "checkpoint_minutes": 0.0,
        }  # fmt: skip
        pretrain_splat.masked_audio(
            MaskedAudioSettings(**same, out=speech, epochs=SPEECH_EPOCHS, **SHAPE)
        )
        for arm, changes in ARMS.items():
            if changes is not None:
                pretrain_splat.splat(
                    SplatSettings(
                        **same, text=str(folder / "text"), init=str(speech), text_vector="mean",
                        epochs=ALIGN_EPOCHS, selection="last",
                        out=folder / "runs" / f"{arm}-{seed}",
                        **changes,
                    )
                )  # fmt: skip
        judge(out, nouns, seed)


def judge(out: Path, nouns: str, seed: int) -> None:
    """Right answers of the probe for each arm, for heard and new voices, and the texts' own."""
    folder = out / nouns
    answers = {}
    parts = {part: AudioClips.open(str(folder / f"{part}-mel")) for part in ("heard", "new")}
    for arm in ARMS:
        for pooling in POOLINGS:
            vectors = {}
            for part, clips in parts.items():
                keys = clips.reader.clips.key
                module = clips.load(keys, pooling, str(folder / "runs" / f"{arm}-{seed}"))
                inputs, encoder = module.inputs(), module.encoder.eval()
                with torch.inference_mode():
                    vectors[part] = inputs.vectors(encoder, range(len(keys)), pooling).numpy()
            answers[f"{arm}, {pooling}"] = {
                part: probe(vectors["heard"], parts["heard"], vectors[part], parts[part], nouns)
                for part in parts
            }
    voices = parts["heard"]
    controls: tuple[RowControl, ...] = ("real", "relabelled")
    for control in controls:
        own = text_vectors(folder, voices, control, seed)
        score = probe(own, voices, own, voices, nouns)
        answers[f"the texts' own vectors, {control}"] = {"heard": score}
    write_json(folder / f"answers-{seed}.json", answers)


def text_vectors(folder: Path, clips: AudioClips, control: RowControl, seed: int) -> np.ndarray:
    """The vectors that clips were aligned to: the mean over each text's tokens."""
    cache = TeacherCache.open(str(folder / "text"), kinds=["text"])
    reader = SequenceReader(cache)
    place_of = {key: place for place, key in enumerate(reader.clips.key)}
    place_C = torch.tensor([place_of[key] for key in clips.reader.clips.key])
    part = control_rows(
        Sequences(reader, place_C, cache.statistics()), control, seed, clips.reader.clips.text
    )
    rows = part.of(torch.arange(len(place_C)))
    means = [x.mean(0) for x in torch.split(rows.values_NW, rows.lengths_B.tolist())]
    return torch.stack(means).numpy()


def probe(
    train_nD: np.ndarray, train: AudioClips, test_nD: np.ndarray, test: AudioClips, nouns: str
) -> dict[str, float]:
    """Per word, the share of its clips whose category is told right by a probe of the other half.

    Both halves of the words are asked in turn, so that each word is asked without a label.
    """
    category = {word: c for c, words in enumerate(NOUNS[nouns]) for word in words}
    half = {word: i % 2 for words in NOUNS[nouns] for i, word in enumerate(words)}
    of_train = [text.split()[-1] for text in train.reader.clips.text]
    of_test = [text.split()[-1] for text in test.reader.clips.text]
    mean_D, std_D = train_nD.mean(0), train_nD.std(0) + 1e-6
    right: dict[str, list[bool]] = {}
    for side in (0, 1):
        trains_n = np.array([half[word] == side for word in of_train])
        tests_n = np.array([half[word] != side for word in of_test])
        model = LogisticRegression(C=0.1, max_iter=2000)
        labels = np.array([category[word] for word in of_train])
        model.fit(((train_nD - mean_D) / std_D)[trains_n], labels[trains_n])
        answers_n = model.predict(((test_nD - mean_D) / std_D)[tests_n])
        for word, answer in zip(np.array(of_test)[tests_n].tolist(), answers_n, strict=True):
            right.setdefault(word, []).append(bool(answer == category[word]))
    return {word: float(np.mean(answers)) for word, answers in right.items()}


def table(out: Path) -> None:
    """Print right answers in per cent with 95 % intervals over nouns, seeds and words, and gains.

    A gain is that over the same module aligned to other texts' states, on the same words.
    """
    files = sorted(out.glob("*/answers-*.json"))
    by_nouns: dict[str, list[dict[str, dict[str, dict[str, float]]]]] = {}
    for file in files:
        by_nouns.setdefault(file.parent.name, []).append(json.loads(file.read_text()))
    print(f"{len(files)} runs: {', '.join(f'{f.parent.name}/{f.stem}' for f in files)}\n")
    print("| module, vector | heard voices | new voices |\n|---|--:|--:|")

    def right(name: str, part: str) -> list[list[dict[str, float]]]:
        return [
            [run[name][part] for run in runs if part in run[name]] for runs in by_nouns.values()
        ]

    for name in next(iter(by_nouns.values()))[0]:
        cells = [
            str(share(right(name, part))) if any(right(name, part)) else "–"
            for part in ("heard", "new")
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| gain | heard voices | new voices |\n|---|--:|--:|")
    for name, control in CONTROLS.items():
        cells = [str(gain(right(name, part), right(control, part))) for part in ("heard", "new")]
        print(f"| {name}, over {control} | {' | '.join(cells)} |")


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=["corpus", "models", "judge", "table"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nouns", choices=list(NOUNS), default="A")
    parser.add_argument("--teacher", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    if options.step == "corpus":
        corpus(options.out, options.nouns, options.teacher)
    elif options.step == "models":
        models(options.out, options.nouns, parse_seeds(options.seeds))
        write_json(options.out / options.nouns / "provenance.json", provenance())
        say(f"{options.out / options.nouns}: done")
    elif options.step == "judge":
        for seed in parse_seeds(options.seeds):
            judge(options.out, options.nouns, seed)
    else:
        table(options.out)


if __name__ == "__main__":
    main()
