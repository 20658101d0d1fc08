"""The whole pipeline on a small spoken corpus that it makes itself, from recordings to a table."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.planted import Utterance

TEACHER = "offline:tiny.en"
STUDENTS = ("none", "crd")


@dataclass(frozen=True, kw_only=True)
class DemoSettings(Settings):
    """How large the demo is."""

    out: Path = setting(Path("demo-out"), help="Folder for everything it makes; kept.")
    words: int = setting(
        40, help="Invented words; half of them get each affect.", minimum=8, maximum=400
    )
    sentences: int = setting(
        10, help="Sentences in which each word is spoken.", minimum=1, maximum=15
    )
    seed: int = setting(0, help="Seed of words, voices, students and fine-tuning.", minimum=0)


def run(settings: DemoSettings) -> None:
    """Run the whole pipeline on a spoken corpus made on the spot, without network or GPU.

    Invented words get a hidden affect that only the voice tells: texts say nothing about it. Two
    students read the transcripts, one with Whisper's vectors as its teacher and one without. Both
    are then fine-tuned to tell the affect from text alone, and tested on words whose affect no
    label ever gave. What the taught student knows about them it has from the audio.

    Takes about 5 minutes on 2 cores. Interrupted, the same command carries on.

    Example: speechkd demo --out demo-out
    """
    import time

    from pipeline.progress import duration, say
    from stages import distill, extract_teacher, finetune, report, shard

    started = time.monotonic()
    out = settings.out

    say("1/6 speaking: invented words in equal sentences; only the voice tells their affect")
    table = _speak(settings)

    say("\n2/6 shard: recordings and transcripts → tars of clips")
    shards = out / "shards"
    shard.run(shard.ShardSettings(source=table, out=shards))

    say(f"\n3/6 extract-teacher: Whisper ({TEACHER}) hears every clip, once")
    cache = out / "cache.zarr"
    extract_teacher.run(
        extract_teacher.ExtractSettings(
            manifest=str(shards / "manifest.jsonl"),
            cache=str(cache),
            teacher=TEACHER,
            pooling="length",
        )
    )

    say("\n4/6 distill: two students read the texts; `crd` is also taught by Whisper's vectors")
    for objective in STUDENTS:
        distill.run(
            distill.DistillSettings(
                cache=str(cache),
                out=out / "runs" / objective,
                kd=[objective],
                student="bert-tiny",
                seed=settings.seed,
                epochs=100,
                batch=64,
                learning_rate=1e-3,
                temperature=0.1,
                held_out=0.0,
            )
        )

    say("\n5/6 finetune: affect from text alone; the test words have never had a label")
    finetune.run(
        finetune.MoseiSettings(
            data=out / "affect.csv",
            checkpoint=[str(out / "runs" / objective) for objective in STUDENTS],
            task=["sentiment2"],
            seeds="0-2",
            out=out / "results",
            learning_rate=5e-4,
            epochs=10,
        )
    )

    say("\n6/6 report")
    report.run(report.ReportSettings(results=[out / "results"], out=out / "report"))

    say(f"\nTook {duration(time.monotonic() - started)}. Everything is in {out}/. Now on your own:")
    print(
        """
  speechkd shard my-recordings --out shards
  speechkd extract-teacher shards/manifest.jsonl --cache cache.zarr
  speechkd distill cache.zarr --out runs/crd --kd crd
"""
    )


def _speak(settings: DemoSettings) -> Path:
    """Speak the corpus into `recordings/`, list it, and write the labels of the words."""
    import numpy as np
    import soundfile

    from pipeline.atomic import replaced
    from pipeline.planted import CARRIERS, plant
    from pipeline.progress import Meter
    from pipeline.speech_synthesis import Synthesizer
    from pipeline.units import SAMPLE_RATE_HZ

    utterances = plant(settings.words, CARRIERS[: settings.sentences], settings.seed)
    table = settings.out / "recordings" / "table.tsv"
    _write_labels(utterances, settings.out / "affect.csv", settings.seed)
    if table.is_file():
        return table
    table.parent.mkdir(parents=True, exist_ok=True)
    synthesizer = Synthesizer()
    with Meter("speaking", len(utterances), "sentences") as meter:
        for u in utterances:
            wave_S = synthesizer.speak(
                u.text,
                voice=u.voice,
                pitch=u.pitch,
                range=u.range,
                rate_wpm=u.rate_wpm,
                volume=u.volume,
            )
            path = table.parent / f"{u.key}.wav"
            soundfile.write(path, np.clip(wave_S, -1, 1), SAMPLE_RATE_HZ, subtype="PCM_16")
            meter.advance(1)
    with replaced(table) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("id\tpath\tspeaker\ttext\n")
        for u in utterances:
            file.write(f"{u.key}\t{u.key}.wav\t{u.voice}\t{u.text}\n")
    return table


def _write_labels(utterances: "list[Utterance]", path: Path, seed: int) -> None:
    """Write a table in CMU-MOSEI's shape (MMSA's label.csv): 40 % of the words train, 10 % valid.

    A word is a "video", so no word is in two splits, and each split has as many bright words as
    flat ones.
    """
    import numpy as np

    from pipeline.atomic import replaced

    rng = np.random.default_rng([seed, 3])
    split_of = {}
    for affect in (1, -1):
        words = rng.permutation(sorted({u.word for u in utterances if u.affect == affect})).tolist()
        train, valid = round(0.4 * len(words)), max(1, round(0.1 * len(words)))
        for place, word in enumerate(words):
            split_of[word] = (
                "train" if place < train else "valid" if place < train + valid else "test"
            )
    names = {1: "Positive", -1: "Negative"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video_id", "clip_id", "text", "label", "annotation", "mode"])
        for u in utterances:
            clip = u.key.rpartition("-")[2]
            rows.writerow([u.word, clip, u.text, u.affect, names[u.affect], split_of[u.word]])
