"""Fine-tune models of texts with their audio on a table: classes, values, or speakers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.finetuning.settings import (
    DATA,
    RECIPE,
    CellSettings,
    FinetuneSettings,
    Selection,
)
from pipeline.finetuning.table import TableData
from pipeline.finetuning.text_form import TextForm
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import like, setting
from pipeline.tasks.mosei.names import TASK_NAMES

if TYPE_CHECKING:
    from pipeline.cache.sequences import SequenceReader
    from pipeline.finetuning.audio_text import FusionRecipe
    from pipeline.finetuning.fusion import Joining
    from pipeline.tasks.labelled_rows import LabelledText
    from pipeline.tasks.task import Question


@dataclass(frozen=True)
class Asked:
    """What is asked of every model.

    Attributes:
        rows: of the table, with their texts and the keys of their clips.
        reader: of the cache of frames; None if no audio is read.
        questions: with their labels.
        notes: sentences on what was left out, how often, and what must be known.
        data: what the results say of the data.
    """

    rows: "Sequence[LabelledText]"
    reader: "SequenceReader | None"
    questions: "Sequence[Question]"
    notes: Sequence[str]
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class AudioTextSettings(CellSettings, TableData):
    """Settings of `speechkd finetune audio-text`."""

    cache: str = setting(
        "",
        help="The cache of frames that has the audio, of the front end that the models learnt "
        "from: a path or URL. --streams text needs none.",
        panel=DATA,
        idle_without="audio",
    )
    id_column: str = like(
        TableData, "id_column", "key", help="Column of the clips' keys in the cache."
    )
    kind: Literal["classes", "value", "speaker"] = setting(
        "classes",
        help="Whether the labels are classes, numbers, or speakers, who are verified: trained as "
        "classes, judged by pairs of clips of other speakers.",
        panel=DATA,
    )
    pairs: Literal["all", "other-recording"] = setting(
        "all",
        help="Which pairs of test clips verify speakers; other-recording leaves out those of one "
        "recording (--group-column), whose room and microphone are the same.",
        panel=DATA,
        idle_without="speakers",
    )
    trials: Path | None = setting(
        None,
        help="A list of pairs of test clips instead: `1 a b` or `a b target` per line.",
        panel=DATA,
        idle_without="speakers",
    )
    derived: Literal["none", "mult"] = setting(
        "none",
        help="mult adds CMU-MOSEI's accuracies and F1 as MulT computes them of values -3 to 3.",
        panel=DATA,
        idle_without="values",
    )

    checkpoint: list[str] = like(
        CellSettings,
        "checkpoint",
        help="A run of pretrain ctal, or its model/, or a run of pretrain whisbert; NAME=PATH "
        "gives it a name for tables. scratch:PATH draws all of its weights anew for each cell "
        "(without pre-training). Repeat it for several.",
    )
    streams: Literal["both", "text", "audio"] = setting(
        "both",
        help="What is read. Of CTAL, whose states are pooled: audio still looks at the text inside "
        "the audio stack. Of WhisBERT, which encoders: text and audio read nothing else.",
        panel=RECIPE,
    )
    fusion: Literal["auto", "sum", "concat", "cls"] = setting(
        "auto",
        help="How both streams are joined. Of CTAL: sums of their poolings, or the first token "
        "beside the pooled audio (concat, Table 4 d). Of WhisBERT: the fusion encoder's CLS (cls), "
        "or the text's CLS beside the audio's (concat). auto is each paper's: sum and cls.",
        origin="paper",
        panel=RECIPE,
        idle_without="both streams",
    )
    fusion_head: Literal["paper", "repository"] = setting(
        "paper",
        help="What is pooled: states, or as in the released code tanh of a layer of each side, and "
        "another one after it. CTAL's alone.",
        panel=RECIPE,
    )
    orthogonal: float = setting(
        1.0,
        help="Weight of CTAL's penalty for streams that point the same way; 0 for none.",
        minimum=0,
        origin="paper",
        panel=RECIPE,
        idle_without="both streams of CTAL",
    )
    freeze: bool = setting(
        False, help="Train the pooling and the head alone, and leave all encoders.", panel=RECIPE
    )

    epochs: int = like(CellSettings, "epochs", 20)
    learning_rate: float = like(CellSettings, "learning_rate", 1e-5)
    batch_size: int = like(CellSettings, "batch_size", 4)
    text_form: TextForm = like(FinetuneSettings, "text_form", "no-punctuation", origin="assumed")
    max_tokens: int = like(FinetuneSettings, "max_tokens")
    head: Literal["tanh", "linear", "mlp512"] = like(CellSettings, "head", "linear", origin="paper")
    warmup_fraction: float = like(CellSettings, "warmup_fraction", 0.0)
    dropout: float = like(CellSettings, "dropout", 0.0)
    regression_loss: Literal["mse", "l1"] = like(
        CellSettings, "regression_loss", "l1", origin="paper"
    )
    schedule: Literal["linear", "fixed", "cosine"] = setting(
        "cosine",
        help="How the rate falls to 0: along half a cosine, in a line, or not at all.",
        origin="paper",
        panel=RECIPE,
    )
    selection: Selection = like(
        CellSettings,
        "selection",
        "best-valid",
        help="Weights to test: the last, those of the epoch best on the validation split, or as in "
        "the released code for IEMOCAP those best on the test itself (0.9 WA + 0.1 UA), of which "
        "every table warns.",
    )

    def check(self) -> None:
        """Refuse audio without a cache."""
        super().check()
        if self.streams != "text" and not self.cache:
            raise SpeechkdError(
                f"--streams {self.streams} reads audio: name the cache that has it with --cache, "
                "or use --streams text."
            )
        if self.selection == "best-test" and self.kind != "classes":
            raise SpeechkdError(
                "--selection best-test repeats what the released code does with emotions, and is "
                f"for --kind classes; use best-valid or last for --kind {self.kind}."
            )
        if self.teacher_cache:
            raise SpeechkdError("--teacher-cache is for text encoders; leave it out here.")
        for flag, asked in (("--folds", self.folds), ("--drop-duplicates", self.drop_duplicates)):
            if self.kind == "speaker" and asked:
                raise SpeechkdError(
                    f"{flag} has no meaning for --kind speaker, whose pairs are of clips of one "
                    "test, and whose texts do not count. Leave it out."
                )

    @property
    def pooling(self) -> Literal["auto"]:
        """What is pooled is said by streams, fusion and its head."""
        return "auto"

    def choices(self) -> set[str]:
        """What is chosen, in the words of `idle_without`."""
        chosen = {
            "audio": self.streams != "text",
            "speakers": self.kind == "speaker",
            "values": self.kind == "value",
            "both streams": self.streams == "both",
            "both streams of CTAL": self.streams == "both" and self.of_ctal,
        }
        return {name for name, is_so in chosen.items() if is_so}

    @property
    def of_whisbert(self) -> bool:
        """Whether any checkpoint is a run of pretrain whisbert."""
        from pipeline.finetuning.pair_inputs import is_whisbert

        return any(is_whisbert(checkpoint) for checkpoint in self.checkpoint)

    @property
    def of_ctal(self) -> bool:
        """Whether any checkpoint is none of pretrain whisbert."""
        from pipeline.finetuning.pair_inputs import is_whisbert

        return not all(is_whisbert(checkpoint) for checkpoint in self.checkpoint)

    def recipe(self) -> "FusionRecipe":
        """How each cell is trained, and how both streams are joined."""
        from pipeline.finetuning.audio_text import FusionRecipe

        return FusionRecipe(
            **vars(super().recipe()),
            streams=self.streams,
            joining=self.joining,
            fusion_head=self.fusion_head,
            orthogonal=self.orthogonal if self.of_ctal else 0.0,
            freeze=self.freeze,
        )

    def questions(self) -> "Sequence[Question]":
        """What is asked of every model."""
        return self.ask().questions

    def ask(self) -> Asked:
        """The rows whose clips the cache has, if audio is read."""
        from pipeline.cache.sequences import SequenceReader, finished
        from pipeline.cache.store import TeacherCache
        from pipeline.corpus.frame_features import MELS
        from pipeline.finetuning.audio_inputs import FRAME_KINDS
        from pipeline.tasks.duplicates import with_repetitions
        from pipeline.tasks.speakers import read_speakers

        reader, only = None, None
        data: dict[str, Any] = {"name": self.title, "split": self.split()}
        if self.streams != "text":
            kinds = FRAME_KINDS if self.of_whisbert else MELS
            cache = finished(TeacherCache.open(self.cache, kinds=kinds))
            reader = SequenceReader(cache, with_words=False)
            only = set(reader.clips.key)
            data["cache_sha256"] = cache.digest()
        if self.kind == "speaker":
            speakers = read_speakers(
                self.sources(),
                self.columns(),
                seed=self.split_seed,
                kind=self.pairs,
                trials=self.trials,
                only=only,
                groups_per_file=self.group_per_file,
            )
            data["sha256"] = speakers.sha256
            return Asked(speakers.rows, reader, [speakers.question], speakers.notes, data)
        table = self.read(TASK_NAMES, only)
        data["sha256"] = table.sha256
        questions = with_repetitions(table.questions, [row.text for row in table.rows])
        if self.kind == "value" and self.derived == "mult":
            questions = _as_mult(questions)
        return Asked(table.rows, reader, questions, table.notes, data)

    @property
    def joining(self) -> "Joining":
        """How both streams are joined, `auto` decided by what the checkpoints are."""
        if self.fusion == "auto":
            return "cls" if self.of_whisbert else "sum"
        return self.fusion


def run(settings: AudioTextSettings) -> None:
    """Fine-tune models that read a text and its audio, and score them.

    They are made by pretrain ctal or pretrain whisbert. DATA is a table with a text, a label and
    the key of a clip per row; --cache has the clips' frames. Epochs are selected on what validates,
    never on the test, unless best-test is asked.

    Example: speechkd finetune audio-text iemocap.csv --cache mels --checkpoint runs/ctal
    --fold-column session --group-column session --fold-validation next --out results
    """
    from pipeline.finetuning.audio_text import AudioTexts
    from pipeline.finetuning.grid import Grid
    from pipeline.finetuning.pair_inputs import load_audio_text
    from pipeline.foundation.progress import say
    from pipeline.reports.running import finetune_and_show
    from pipeline.reports.tables import SELECTED_ON_TEST

    asked, name, recipe = settings.ask(), settings.title, settings.recipe()
    for note in asked.notes:
        say(f"{name}: {note}")
    if settings.set_in_vain():
        say(f"without effect: {', '.join(settings.set_in_vain())}")
    if settings.selection == "best-test":
        say(f"WARNING: {name}: {SELECTED_ON_TEST}")
    settings.check_selection(settings.selection, asked.questions)
    rows = asked.rows
    examples = AudioTexts(
        [row.text for row in rows], [row.key for row in rows], asked.reader, recipe
    )
    grid = Grid(
        ids=[row.id for row in rows],
        groups=[row.group for row in rows],
        load=partial(load_audio_text, examples),
        questions=asked.questions,
        seeds=parse_seeds(settings.seeds),
        recipe=recipe,
        data=asked.data,
    )
    finetune_and_show(settings, grid, has_folds=settings.has_folds)


def _as_mult(questions: "Sequence[Question]") -> "list[Question]":
    """The same questions with MulT's figures of values beside them."""
    from dataclasses import replace

    from pipeline.tasks.mosei.schemes import score_derived

    return [replace(q, task=replace(q.task, own_metrics=score_derived)) for q in questions]


COMMANDS = {"finetune audio-text": (AudioTextSettings, run)}
