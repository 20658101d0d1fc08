"""The whole pipeline on a small spoken corpus of its own, from recordings to a table."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.settings import ExtractSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, flag_name, setting
from pipeline.shards.settings import ShardSettings

if TYPE_CHECKING:
    from pipeline.tasks.planted.corpus import Utterance

LOG = "details.log"
WIDTH = 96
ENOUGH_WORDS = 16

TEACHER = "offline:tiny.en"
TRAINING: dict[str, Any] = {
    "student": "bert-tiny",
    "epochs": 60.0,
    "batch": 64,
    "learning_rate": 1e-3,
    "held_out": 0.0,
    "device": "cpu",
}
FINE_TUNING: dict[str, Any] = {"epochs": 10, "learning_rate": 5e-4, "device": "cpu"}
STUDENTS: dict[str, dict[str, Any]] = {
    "text-only": {"kd": "none"},
    "control": {"kd": "crd", "temperature": 0.1, "control": "shuffled"},
    "taught": {"kd": "crd", "temperature": 0.1},
}

ROWS = {
    "text-only": "text only,\nno teacher",
    "control": "control: taught with\nother clips' vectors",
    "taught": "taught with the\nclips' own vectors",
    "ceiling": "ceiling: Whisper,\nwhich hears the words",
}


@dataclass(frozen=True, kw_only=True)
class DemoSettings(Settings):
    """How large the demo is."""

    out: Path = setting(Path("demo-out"), help="Folder for everything that the demo makes.")
    words: int = setting(
        40, help="Invented words, an even number; half get each affect.", minimum=8, maximum=400
    )
    sentences: int = setting(
        10, help="Sentences in which each word is spoken.", minimum=1, maximum=30
    )
    seed: int = setting(0, help="Seed of words, voices, students and fine-tuning.", minimum=0)

    def check(self) -> None:
        """Check that the words can be halved."""
        if self.words % 2:
            raise SpeechkdError(f"--words is {self.words}; it must be even: half get each affect.")


def run(settings: DemoSettings) -> None:
    """Run the whole pipeline on a spoken corpus made on the spot, without network or GPU.

    Invented words get a hidden affect that only the voice tells; their texts say nothing about it.
    Three students read the transcripts: one is taught with Whisper's vectors of the speech, one
    with those of other clips, one without a teacher. All are then fine-tuned to tell the affect
    from text alone, and tested on words whose affect no label named. What the taught student knows
    about these words comes from the audio.

    Takes about 5 minutes on 2 cores. After an interruption the same command carries on.

    Example: speechkd demo --out demo-out
    """
    import time

    from pipeline.foundation.atomic import write_bytes
    from pipeline.foundation.devices import one_thread
    from pipeline.foundation.progress import duration, say
    from pipeline.tasks.planted.answers import picture
    from pipeline.tasks.planted.corpus import CARRIERS, plant
    from pipeline.tasks.planted.folder import AFFECTS

    started = time.monotonic()
    out = settings.out
    _check_empty_or_demo(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / LOG).touch()
    _announce(
        "Does a student that reads text alone learn what Whisper hears?",
        "Invented words are spoken in a bright or in a flat voice, all in the same sentences. "
        "Neither spelling nor sentence tells which, so text alone allows no more than a guess. "
        f"What the stages print goes to {out / LOG}.",
    )
    utterances = plant(settings.words, CARRIERS[: settings.sentences], settings.seed)
    try:
        labels = _hear(settings, utterances)
        # students so small gain little from more threads, and lose much on busy cores
        with one_thread():
            _teach(settings)
            rows = _compare(settings, labels)
    except SystemExit:
        say("interrupted; the same command carries on from what is finished")
        raise
    affects = {u.word: AFFECTS[u.affect] for u in utterances}
    write_bytes(out / "demo.png", picture({ROWS[k]: right for k, right in rows.items()}, affects))
    _print_results(rows, settings)
    say(f"\nTook {duration(time.monotonic() - started)}.")


def _check_empty_or_demo(out: Path) -> None:
    """Refuse a folder of something else, in which the demo's files could not be told apart."""
    if out.is_dir() and not (out / LOG).exists():
        foreign = [item.name for item in sorted(out.iterdir()) if not item.name.startswith(".")]
        if foreign:
            raise SpeechkdError(
                f"--out {out} holds what no demo made, such as {foreign[0]}; name a new folder."
            )
    elif out.exists() and not out.is_dir():
        raise SpeechkdError(f"--out {out} is a file; name a folder.")


def _hear(settings: DemoSettings, utterances: "list[Utterance]") -> Path:
    """Speak the corpus, cut it into tars, let Whisper hear it; returns the table of labels."""
    from pipeline.tasks.planted.folder import write_corpus
    from stages import extract_teacher, shard

    out = settings.out
    _announce(
        "1/6 Speak.",
        f"{settings.words} invented words in {settings.sentences} sentences each, by ten voices of "
        "eSpeak NG. The affect moves pitch, rate, range and loudness, with so much chance in each "
        "that one clip alone may mislead.",
    )
    table, labels = write_corpus(utterances, out, settings.seed)

    _announce(
        "2/6 Shard.",
        "Recordings and transcripts become tars of clips, which any cluster reads well.",
        f"speechkd shard {table} --out {out}/shards",
    )
    with _output_to(out / LOG):
        shard.run(ShardSettings(source=str(table), out=out / "shards"))

    _announce(
        "3/6 Listen.",
        "Whisper (tiny.en) hears each clip once and leaves one vector. No later step needs "
        "audio or Whisper.",
        f"speechkd extract-teacher {out}/shards/manifest.jsonl --cache {out}/cache "
        f"--teacher {TEACHER} --pooling length",
    )
    with _output_to(out / LOG):
        extract_teacher.run(
            ExtractSettings(
                manifest=str(out / "shards" / "manifest.jsonl"),
                cache=str(out / "cache"),
                teacher=TEACHER,
                pooling="length",
            )
        )
    return labels


def _teach(settings: DemoSettings) -> None:
    """Distil the three students."""
    from stages import distill

    out = settings.out
    _announce(
        "4/6 Distil.",
        "Three small students learn to fill gaps in the transcripts. One does nothing else. One is "
        "also pulled towards Whisper's vectors. One is pulled towards vectors of other clips: a "
        "control, because whatever it gains did not come from the speech.",
    )
    for name, form in STUDENTS.items():
        flags = _flags(DistillSettings, form | TRAINING)
        _show(f"speechkd distill {out}/cache --out {out}/runs/{name} {flags}")
        with _output_to(out / LOG):
            distill.run(
                DistillSettings(
                    cache=str(out / "cache"),
                    out=out / "runs" / name,
                    seed=settings.seed,
                    **{**form, **TRAINING, "kd": [form["kd"]]},
                )
            )


def _compare(settings: DemoSettings, labels: Path) -> dict[str, dict[str, float]]:
    """Fine-tune the students, probe the teacher; returns right answers per row and test word."""
    import csv

    from pipeline.cache.store import TeacherCache
    from pipeline.tasks.planted.answers import probe_by_word, right_by_word, teacher_vectors
    from pipeline.tasks.planted.folder import SPLIT_COLUMNS
    from stages import finetune_table

    out = settings.out
    _announce(
        "5/6 Fine-tune.",
        "Each student sees the affect of half of the words, in text, and is asked for that of the "
        "others, three times with different seeds.",
        f"speechkd finetune table {labels} --label-column affect --id-column key "
        f"--group-column word --split-column {SPLIT_COLUMNS[0]} --seeds 0-2 --out {out}/results "
        f"{_flags(finetune_table.TableSettings, FINE_TUNING)} "
        + " ".join(f"--checkpoint {out}/runs/{name}" for name in STUDENTS),
    )
    with _output_to(out / LOG):
        finetune_table.run(
            finetune_table.TableSettings(
                data=[str(labels)],
                checkpoint=[str(out / "runs" / name) for name in STUDENTS],
                label_column="affect",
                id_column="key",
                group_column="word",
                split_column=SPLIT_COLUMNS[0],
                seeds="0-2",
                out=out / "results",
                **FINE_TUNING,
            )
        )
    predictions = out / "results" / "predictions"
    rows = {name: right_by_word(predictions.glob(f"{name}-*.csv")) for name in STUDENTS}

    _announce(
        "6/6 Compare.",
        "The ceiling: a linear probe of Whisper's own vectors, averaged over the clips of a word.",
    )
    with labels.open(encoding="utf-8", newline="") as file:
        clips = list(csv.DictReader(file))
    clip_vectors, word_means = teacher_vectors(TeacherCache.open(str(out / "cache")), clips)
    rows["ceiling"] = probe_by_word(clip_vectors, clips, SPLIT_COLUMNS[:1], test_CD=word_means)
    return rows


def _print_results(rows: dict[str, dict[str, float]], settings: DemoSettings) -> None:
    """Print the table, the places of all files, and what to run next."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.tasks.planted.answers import share

    table = Table("", "right on unseen words", "95 % interval", box=None, pad_edge=False)
    for name, right in rows.items():
        one = share([[right]])
        table.add_row(
            " ".join(ROWS[name].split()),
            f"{100 * one.mean:.0f} %",
            f"{100 * one.low:.0f} to {100 * one.high:.0f} %",
            style="bold" if name == "taught" else None,
        )
    print()
    Console(highlight=False).print(table)
    out = settings.out
    tested = len(rows["taught"])
    few = " With so few words this says nothing; use 40." if tested < ENOUGH_WORDS else ""
    print(
        f"""
Guessing gives 50 %. The interval is over the {tested} test words.{few}

  {out}/demo.png            the same as a picture, one dot per word
  {out}/recordings          what was spoken: listen to it
  {out}/cache               Whisper's vectors          speechkd cache info {out}/cache
  {out}/runs/taught         the student, and how it was trained (README.md)
  {out}/results             every prediction           speechkd report {out}/results --out report

Now on your own recordings and transcripts:

  speechkd shard my-recordings --out shards
  speechkd extract-teacher shards/manifest.jsonl --cache cache
  speechkd distill cache --out runs/crd --kd crd"""
    )


def _announce(step: str, why: str, command: str = "") -> None:
    import textwrap

    from pipeline.foundation.progress import say

    say("\n" + textwrap.fill(f"{step} {why}", WIDTH, break_on_hyphens=False))
    if command:
        _show(command)


def _show(command: str) -> None:
    """Show a command as a user would type it."""
    from pipeline.foundation.progress import say

    say(f"    $ {command}")


def _flags(settings: type[Settings], values: dict[str, Any]) -> str:
    """Values of some fields of a stage's settings, as a user would type them."""
    flags = {f.name: flag_name(f) for f in fields(settings)}
    return " ".join(f"{flags[name]} {value}" for name, value in values.items())


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what a stage prints to a file; its meters stay on the screen."""
    from pipeline.foundation.progress import details_to

    with details_to(log) as file, redirect_stdout(file):
        yield


COMMANDS = {"demo": (DemoSettings, run)}
