"""Fine-tune speech encoders to find where a spoken passage answers a question that is read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.finetuning.settings import (
    DATA,
    MACHINE,
    RECIPE,
    CellSettings,
    FinetuneSettings,
    ValueScale,
)
from pipeline.finetuning.text_form import TextForm
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import like, setting

if TYPE_CHECKING:
    from pipeline.finetuning.audio_inputs import AudioClips
    from pipeline.finetuning.span_reader import SpanRecipe
    from pipeline.tasks.spans.table import SpanTable
    from pipeline.tasks.task import Question


@dataclass(frozen=True, kw_only=True)
class AudioSpansSettings(CellSettings):
    """Settings of `speechkd finetune audio-spans`."""

    data: list[str] = setting(
        help="Questions: a table with question_id, question, passage, answer_start_s and "
        "answer_end_s, a row per answer; split and group are optional. train=FILE, valid=FILE and "
        "test=FILE say which split each is.",
        argument=True,
    )
    passages: Path = setting(
        help="Passages: a table with passage and clip (its key in the cache), a row per clip in "
        "the order in which clips are heard; start_s says where each begins if there are gaps.",
        panel=DATA,
    )
    cache: str = setting(
        help="The cache of the clips' frames (path or URL), of the front end that the encoders "
        "learnt from.",
        panel=DATA,
    )
    split_seed: int = setting(
        0, help="Seed of a split that is made, where the questions bring none.", minimum=0,
        panel=DATA,
    )  # fmt: skip
    prepared: Path | None = setting(
        None,
        help="Folder for the statistics of speakers, which are computed once per cache; the "
        "default is CACHE.prepared.",
        panel=MACHINE,
    )
    checkpoint: list[str] = like(
        CellSettings,
        "checkpoint",
        help="Speech encoder to fine-tune: a run of pretrain masked-audio or splat, fresh:base "
        "(the paper's size, fresh weights) or fresh:RUN (a run's size). shuffled:RUN is trained on "
        "questions about other passages, blind:RUN reads no question: controls. NAME=… gives it a "
        "name for tables. Repeat it for several.",
    )
    tokenizer: str = setting(
        "bert-base-uncased",
        help="Tokenizer of the questions: an encoder's folder, a distill run's student/, or a hub "
        "id.",
        origin="assumed",
        panel=RECIPE,
    )
    question_table: Literal["fresh", "own"] = setting(
        "fresh",
        help="What tokens of questions begin as: random vectors, or the table of --tokenizer's own "
        "encoder.",
        origin="assumed",
        panel=RECIPE,
    )
    layers: int = setting(
        3,
        help="Layers of the fresh encoder over passage and question.",
        minimum=1,
        origin="paper",
        panel=RECIPE,
    )
    grid_ms: int = setting(
        40,
        help="The most that a cell lasts, in which an answer can begin or end: so many of an "
        "encoder's positions become one by their mean.",
        unit="ms",
        minimum=1,
        maximum=1000,
        origin="assumed",
        panel=RECIPE,
    )
    span_loss: Literal["softmax", "bce"] = setting(
        "softmax",
        help="Cross-entropy over the cells of a passage, or the paper's logistic regression: a yes "
        "or no for each cell.",
        origin="assumed",
        panel=RECIPE,
    )
    most_seconds: float = setting(
        30.0,
        help="The longest answer that is given.",
        unit="s",
        minimum=0.01,
        origin="assumed",
        panel=RECIPE,
    )
    max_tokens: int = like(
        FinetuneSettings, "max_tokens", 64, origin="assumed",
        help="Length of the longest question; longer ones are cut and counted.",
    )  # fmt: skip
    text_form: TextForm = like(
        FinetuneSettings,
        "text_form",
        help="Form of all questions: as they are, in lower case, or in lower case without "
        "punctuation.",
    )
    seeds: str = like(CellSettings, "seeds", "0-2")
    epochs: int = like(CellSettings, "epochs", 10, origin="assumed")
    learning_rate: float = like(CellSettings, "learning_rate", 3e-4, origin="assumed")
    batch_size: int = like(
        CellSettings,
        "batch_size",
        16,
        help="Questions per step; a passage that several of them are about is encoded once.",
        unit="questions",
        origin="assumed",
    )
    head: Literal["tanh", "linear", "mlp512"] = like(
        CellSettings,
        "head",
        "linear",
        help="What tells of each cell whether the answer begins or ends there: linear alone (the "
        "paper's logistic regression), or after a dense layer of tanh or of 512 ReLU.",
        origin="paper",
    )
    dropout: float = like(
        CellSettings,
        "dropout",
        help="Dropout in the head and in the fresh encoder; the speech encoder keeps its own.",
    )
    selection: Literal["last", "best-valid"] = like(CellSettings, "selection", "best-valid")
    value_scale: ValueScale = like(CellSettings, "value_scale", "raw")
    schedule: Literal["linear", "fixed", "cosine"] = setting(
        "linear",
        help="How the rate falls to 0 after warm-up: in a line, not at all, or along half a "
        "cosine.",
        origin="assumed",
        panel=RECIPE,
    )

    def check(self) -> None:
        """Refuse what is asked of other commands."""
        super().check()
        if not self.data:
            raise SpeechkdError("DATA is empty; name at least one file.")
        for flag, idle in (
            ("--teacher-cache", not self.teacher_cache),
            ("--class-weights", self.class_weights == "none"),
            ("--regression-loss", self.regression_loss == "mse"),
            ("--value-scale", self.value_scale == "raw"),
        ):
            if not idle:
                raise SpeechkdError(f"{flag} has no meaning for answers in time; leave it out.")

    @property
    def pooling(self) -> Literal["auto"]:
        """Nothing is pooled: each cell has a vector."""
        return "auto"

    def recipe(self) -> "SpanRecipe":
        """How each cell of the grid is trained, and how questions are joined with passages."""
        from pipeline.finetuning.span_reader import SpanRecipe

        names = ("layers", "tokenizer", "question_table", "grid_ms", "most_seconds", "span_loss")
        return SpanRecipe(**vars(super().recipe()), **{name: getattr(self, name) for name in names})

    def questions(self) -> "Sequence[Question]":
        """What is asked of every encoder: one question, where the answers are."""
        return [self.ask()[0].question]

    def ask(self) -> "tuple[SpanTable, AudioClips]":
        """The questions about passages whose clips the cache has, and those clips.

        Raises:
            SpeechkdError: a file cannot be read, or nothing validates what is selected.
        """
        from pipeline.finetuning.audio_inputs import AudioClips
        from pipeline.tasks.labelled_rows import Source
        from pipeline.tasks.spans.passages import read_passages
        from pipeline.tasks.spans.table import read_spans

        clips = AudioClips.open(self.cache, self.prepared)
        cached = clips.reader.clips
        seconds_of = dict(zip(cached.key, cached.duration_s.astype(float).tolist(), strict=True))
        notes: Counter[str] = Counter()
        passages = read_passages(self.passages, seconds_of, notes)
        table = read_spans(
            [Source.of(written) for written in self.data], passages, self.split_seed, notes
        )
        if self.selection == "best-valid" and not table.question.counts["valid"]:
            raise SpeechkdError(
                f"{self.title}: --selection best-valid needs questions in split valid, or write "
                "--selection last."
            )
        return table, clips

    @property
    def title(self) -> str:
        """The names of the files of questions."""
        from pipeline.tasks.labelled_rows import Source

        return " + ".join(Source.of(written).path.name for written in self.data)


def run(settings: AudioSpansSettings) -> None:
    """Fine-tune speech encoders to answer questions with a stretch of a spoken passage.

    Nothing is decoded: the frames of each passage's clips are read from --cache. An answer is
    judged by the audio overlapping score (AOS), beside the best constant answer and the whole
    passage. Questions and answers that cannot be used are counted and left out.

    Example: speechkd finetune audio-spans questions.csv --passages passages.csv --cache mels
    --checkpoint Seq=runs/seq --checkpoint Seq-shuffled=shuffled:runs/seq --out results
    """
    from pipeline.finetuning.audio_spans import AudioSpans
    from pipeline.finetuning.grid import Grid
    from pipeline.foundation.progress import say
    from pipeline.reports.running import finetune_and_show

    table, clips = settings.ask()
    for note in table.notes:
        say(f"{settings.title}: {note}")
    recipe = settings.recipe()
    spans = AudioSpans(table, clips, recipe)
    grid = Grid(
        ids=[row.id for row in table.rows],
        groups=[row.group for row in table.rows],
        load=spans.load,
        questions=[table.question],
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data={
            "name": settings.title,
            "sha256": table.sha256,
            "split": {"origin": "given", "seed": None}
            if table.has_split
            else {"origin": "made", "seed": settings.split_seed},
            "cache_sha256": clips.cache.digest(),
            "words_sha256": spans.words_sha256(),
        },
    )
    finetune_and_show(settings, grid)


COMMANDS = {"finetune audio-spans": (AudioSpansSettings, run)}
