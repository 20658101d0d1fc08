"""Spoken SQuAD, as its authors hand it out → tables of sentences, passages, and timed questions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.tasks.spans.spoken_squad import Paragraph

SENTENCES, PASSAGES, QUESTIONS = "sentences.csv", "passages.csv", "questions.csv"


@dataclass(frozen=True, kw_only=True)
class SquadFiles(Settings):
    """The files of Spoken SQuAD."""

    train: Path | None = setting(None, help="The JSON to train on: spoken_train-v1.1.json.")
    test: Path | None = setting(
        None, help="The JSON to test on: spoken_test-v1.1.json, or one of the noisy ones."
    )
    out: Path = setting(help="The folder for the tables.")

    def check(self) -> None:
        """Refuse to read nothing."""
        super().check()
        if not (self.train or self.test):
            raise SpeechkdError("name a JSON with --train or --test, or both.")

    def paragraphs(self) -> "dict[str, list[Paragraph]]":
        """The paragraphs of each split."""
        from pipeline.tasks.spans.spoken_squad import check_titles, read_paragraphs

        files = {"train": self.train, "test": self.test}
        of = {split: read_paragraphs(path, split) for split, path in files.items() if path}
        check_titles([paragraph for several in of.values() for paragraph in several])
        return of


@dataclass(frozen=True, kw_only=True)
class SentencesSettings(SquadFiles):
    """Settings of `speechkd spoken-squad sentences`."""

    train_audio: Path | None = setting(None, help="The folder with the waves of --train.")
    test_audio: Path | None = setting(None, help="The folder with the waves of --test.")

    def check(self) -> None:
        """Refuse a JSON without its waves."""
        super().check()
        for name in ("train", "test"):
            if bool(getattr(self, name)) != bool(getattr(self, f"{name}_audio")):
                raise SpeechkdError(f"--{name} and --{name}-audio belong together; name both.")
        if self.train_audio and self.train_audio == self.test_audio:
            raise SpeechkdError(
                f"--train-audio and --test-audio are both {self.train_audio}, and waves of both "
                "splits have the same names. Unpack each split into a folder of its own."
            )


@dataclass(frozen=True, kw_only=True)
class QuestionsSettings(SquadFiles):
    """Settings of `speechkd spoken-squad questions`."""

    cache: str = setting(help="The cache of frames that will be asked: it has each clip's length.")
    words: str = setting(
        help="A cache of kind words of the same shards (extract-teacher --keep words): it tells "
        "when each word is said."
    )
    validation: float = setting(
        0.05,
        help="Share of the training questions that validate, by whole articles.",
        minimum=0,
        maximum=0.5,
        origin="paper",
    )
    validation_seed: int = setting(0, help="Another seed takes other articles.", minimum=0)


def sentences(settings: SentencesSettings) -> None:
    """List the sentences of Spoken SQuAD for speechkd shard, and of which clips a passage is made.

    Writes sentences.csv (path, text, key, recording) and passages.csv (passage, clip). The keys are
    SPLIT/TOPIC_PARAGRAPH_SENTENCE. A paragraph with more or fewer waves than sentences is counted
    and left out.

    Example: speechkd spoken-squad sentences --train spoken_train-v1.1.json --train-audio train_wav
    --test spoken_test-v1.1.json --test-audio dev_wav --out squad
    """
    from pipeline.tasks.spans.spoken_squad import PASSAGE_COLUMNS, SENTENCE_COLUMNS, spoken

    rows: list[Sequence[Any]] = []
    clips: list[Sequence[Any]] = []
    folders = {"train": settings.train_audio, "test": settings.test_audio}
    for split, paragraphs in settings.paragraphs().items():
        notes: Counter[str] = Counter()
        passages = 0
        folder = folders[split] or Path()  # which is named, or the settings were refused
        for paragraph, waves in spoken(paragraphs, folder, notes):
            passages += 1
            for sentence, wave in zip(paragraph.sentences, waves, strict=True):
                rows.append([wave.resolve(), sentence.text, sentence.key, paragraph.name])
                clips.append([paragraph.name, sentence.key])
        print(
            f"{split}: {passages:,} of {len(paragraphs):,} paragraphs have all of their sentences"
        )
        _tell(notes)
    if not rows:
        raise SpeechkdError(
            "no paragraph has a wave for each of its sentences; nothing is written."
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    _write(settings.out / SENTENCES, SENTENCE_COLUMNS, rows)
    _write(settings.out / PASSAGES, PASSAGE_COLUMNS, clips)


def questions(settings: QuestionsSettings) -> None:
    """Tell when the answers of Spoken SQuAD are said, and write them as a table of questions.

    Writes questions.csv, which speechkd finetune audio-spans reads beside passages.csv. Answers
    whose time is not known are counted by reason and left out.

    Example: speechkd spoken-squad questions --train spoken_train-v1.1.json --test
    spoken_test-v1.1.json --cache mels --words words --out squad
    """
    from pipeline.cache.identity import KINDS, Kind
    from pipeline.cache.sequences import SequenceReader, finished
    from pipeline.cache.store import TeacherCache
    from pipeline.tasks.spans.spoken_squad import (
        QUESTION_COLUMNS,
        Heard,
        answers,
        validation_split,
    )

    of = settings.paragraphs()
    frames = SequenceReader(
        finished(TeacherCache.open(settings.cache, kinds=KINDS)), with_words=False
    ).clips
    kinds: tuple[Kind, ...] = ("words",)
    timed = SequenceReader(finished(TeacherCache.open(settings.words, kinds=kinds))).clips
    heard = Heard(
        dict(zip(frames.key, frames.duration_s.astype(float).tolist(), strict=True)),
        dict(zip(timed.key, timed.words, strict=True)),
    )
    splits = validation_split(of.get("train", []), settings.validation, settings.validation_seed)
    rows = []
    for split, paragraphs in of.items():
        notes: Counter[str] = Counter()
        mine = list(answers(paragraphs, heard, splits, notes))
        asked = sum(len(paragraph.questions) for paragraph in paragraphs)
        known = len({row.question_id for row in mine})
        print(f"{split}: {known:,} of {asked:,} questions, {len(mine):,} answers with their times")
        _tell(notes)
        rows += mine
    if not rows:
        raise SpeechkdError(
            "no answer has a time; nothing is written. The keys of the caches must be those of "
            f"{SENTENCES}, such as train/0_0_0."
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    _write(settings.out / QUESTIONS, QUESTION_COLUMNS, map(astuple, rows))


def _tell(notes: Counter[str]) -> None:
    for what, count in sorted(notes.items()):
        print(f"  {what}: {count:,}")


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import csv
    import io

    from pipeline.foundation.atomic import write_text

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
    print(path)


COMMANDS = {
    "spoken-squad sentences": (SentencesSettings, sentences),
    "spoken-squad questions": (QuestionsSettings, questions),
}
