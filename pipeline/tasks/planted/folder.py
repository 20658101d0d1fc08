"""A planted corpus on disk: recordings, their table, and the labels for fine-tuning."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from pipeline.foundation.atomic import replaced, write_text
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter
from pipeline.foundation.units import SAMPLE_RATE_HZ
from pipeline.tasks.planted.corpus import Utterance
from pipeline.tasks.planted.speech import Synthesizer

AFFECTS = {1: "bright", -1: "flat"}
SPLIT_COLUMNS = ("split_1", "split_2")
"""Columns of `labels.csv`: half of the words train and the others test; then the reverse."""


def halves(utterances: Sequence[Utterance], seed: int) -> dict[str, int]:
    """Put each word into half 0 or 1, each with as many bright words as flat ones."""
    rng = np.random.default_rng([seed, 3])
    half_of: dict[str, int] = {}
    for affect in AFFECTS:
        words = rng.permutation(sorted({u.word for u in utterances if u.affect == affect})).tolist()
        half_of |= {word: int(place >= len(words) // 2) for place, word in enumerate(words)}
    return half_of


def write_corpus(utterances: Sequence[Utterance], folder: Path, seed: int) -> tuple[Path, Path]:
    """Speak a corpus into `folder`; recordings that it already holds stay.

    Args:
        utterances: from `pipeline.tasks.planted.corpus.plant`.
        folder: gets `labels.csv`, which `speechkd finetune table` takes, and `recordings/` with one
            WAV file per utterance and `table.tsv`, which `speechkd shard` takes.
        seed: decides which half of the words each word is in.

    Returns:
        The table of recordings and the table of labels.

    Raises:
        SpeechkdError: the folder holds another corpus, or eSpeak NG is missing.
    """
    import soundfile

    labels = folder / "labels.csv"
    content = _labels(utterances, halves(utterances, seed))
    if labels.exists() and labels.read_text(encoding="utf-8") != content:
        raise SpeechkdError(
            f"{folder} holds a corpus of another size or seed; name a new folder with --out, or "
            "give the settings that the corpus was made with."
        )
    write_text(labels, content)
    recordings = folder / "recordings"
    recordings.mkdir(exist_ok=True)
    unspoken = [u for u in utterances if not (recordings / f"{u.key}.wav").exists()]
    if unspoken:
        synthesizer = Synthesizer()
        ready = len(utterances) - len(unspoken)
        with Meter("speaking", len(utterances), "sentences", done=ready) as meter:
            for u in unspoken:
                wave_S = synthesizer.speak(
                    u.text,
                    voice=u.voice,
                    pitch=u.pitch,
                    range=u.range,
                    rate_wpm=u.rate_wpm,
                    volume=u.volume,
                )
                with replaced(recordings / f"{u.key}.wav") as path:
                    soundfile.write(
                        path,
                        np.clip(wave_S, -1, 1),
                        SAMPLE_RATE_HZ,
                        subtype="PCM_16",
                        format="WAV",
                    )
                meter.advance(1)
    table = recordings / "table.tsv"
    rows = [f"{u.key}\t{u.key}.wav\t{u.voice}\t{u.text}\n" for u in utterances]
    write_text(table, "id\tpath\tspeaker\ttext\n" + "".join(rows))
    return table, labels


def _labels(utterances: Sequence[Utterance], half_of: dict[str, int]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*(f.name for f in fields(Utterance)), *SPLIT_COLUMNS])
    for u in utterances:
        columns = {**asdict(u), "affect": AFFECTS[u.affect]}
        splits = ["train" if half_of[u.word] == half else "test" for half in (0, 1)]
        rows.writerow([*columns.values(), *splits])
    return text.getvalue()
