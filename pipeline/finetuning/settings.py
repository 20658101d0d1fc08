"""Settings that every fine-tuning command shares: the grid, the recipe, the machine."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.cluster.shares import array_task
from pipeline.finetuning.text_form import AS_IS, TextForm
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.tasks.task import Question

GRID, RECIPE, MACHINE, DATA = "The grid", "The recipe", "The machine", "The data"

Pooling: TypeAlias = Literal["auto", "cls", "mean", "attention", "max"]
"""How the states of an example become its vector; which of them there are depends on the inputs."""
Selection: TypeAlias = Literal["last", "best-valid", "best-test"]
"""Which epoch's weights are tested; `best-test` repeats a published mistake, and says so."""
Schedule: TypeAlias = Literal["linear", "fixed", "cosine"]
ValueScale: TypeAlias = Literal["standard", "raw"]


@dataclass(frozen=True)
class Recipe:
    """How a cell is trained; `CellSettings` and `FinetuneSettings` document each field."""

    epochs: int
    learning_rate: float
    batch_size: int
    warmup_fraction: float
    weight_decay: float
    dropout: float
    clip_norm: float
    pooling: Pooling
    head: Literal["tanh", "linear", "mlp512"]
    selection: Selection
    regression_loss: Literal["mse", "l1"]
    precision: Literal["float32", "bf16"]
    class_weights: Literal["none", "balanced"]
    max_tokens: int = 0
    text_form: TextForm = AS_IS
    schedule: Schedule = "linear"
    value_scale: ValueScale = "raw"

    def record(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CellSettings(Settings):
    """Settings of the grid, the recipe and the machine, whatever the examples are."""

    checkpoint: list[str] = setting(
        help=(
            "Encoder to fine-tune: a distill run, a Hugging Face encoder folder or a hub id; "
            "NAME=PATH gives it a name for tables. Repeat it for several."
        ),
        panel=GRID,
    )
    seeds: str = setting(
        "0-4",
        help="Seeds of fine-tuning: a range, a list with commas, or both.",
        origin="paper",
        panel=GRID,
    )
    out: Path = setting(help="The results folder; finished cells in it are not run again.")
    teacher_cache: str = setting(
        "",
        help=(
            "Teacher cache (path or URL) made from these clips' recordings, with the clips' ids "
            "as keys (MOSEI's are video[clip]). The report then shows the teacher's vectors beside "
            "the encoders'. Nothing is trained with it."
        ),
        panel=DATA,
    )
    array_task: str = setting(
        "",
        help=(
            "I/N: run share I (from 0) of N of the grid. By default the scheduler's own variables "
            "decide; without a scheduler the whole grid is run."
        ),
        panel=GRID,
    )
    dry_run: bool = setting(False, help="Check everything and print the cells, but train nothing.")

    epochs: int = setting(
        3, help="Passes over the training split.", minimum=1, origin="paper", panel=RECIPE
    )
    learning_rate: float = setting(
        2e-5, help="Peak learning rate.", minimum=1e-9, origin="paper", panel=RECIPE
    )
    batch_size: int = setting(
        32, help="Clips per step.", unit="clips", minimum=1, origin="paper", panel=RECIPE
    )
    head: Literal["tanh", "linear", "mlp512"] = setting(
        "tanh",
        help="The fresh head: dense, tanh, dropout, linear (as BERT's); linear only; or dense to "
        "512, ReLU, dropout, linear (SPLAT's).",
        origin="assumed",
        panel=RECIPE,
    )
    warmup_fraction: float = setting(
        0.1,
        help="Share of all steps in which the rate rises; after them it falls linearly to 0.",
        minimum=0,
        maximum=1,
        origin="assumed",
        panel=RECIPE,
    )
    weight_decay: float = setting(
        0.01,
        help="AdamW's weight decay, for matrices only.",
        minimum=0,
        origin="assumed",
        panel=RECIPE,
    )
    dropout: float = setting(
        0.1,
        help="Dropout in the head; the encoder keeps its own.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
        panel=RECIPE,
    )
    clip_norm: float = setting(
        1.0,
        help="Largest norm of the gradient; 0 means no limit.",
        minimum=0,
        origin="assumed",
        panel=RECIPE,
    )
    regression_loss: Literal["mse", "l1"] = setting(
        "mse", help="Loss of the regression task.", origin="assumed", panel=RECIPE
    )
    value_scale: ValueScale = setting(
        "standard",
        help="What the head of a regression gives: labels less the mean of the training labels, in "
        "units of their σ, which is turned back before anything is scored; or labels as they are. "
        "A fresh head gives 0, and takes most of a short training to reach labels far from it.",
        origin="assumed",
        panel=RECIPE,
    )
    class_weights: Literal["none", "balanced"] = setting(
        "none",
        help="Weight of a class in the loss: the same for all, or one over its share of the "
        "training labels (for yes-or-no questions of one head, no over yes).",
        panel=RECIPE,
    )
    selection: Selection = setting(
        "last",
        help="Weights to test: the last, or those of the epoch best on the validation split.",
        origin="assumed",
        panel=RECIPE,
    )

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to train; auto takes a GPU if there is one.", panel=MACHINE
    )
    precision: Literal["auto", "float32", "bf16"] = setting(
        "auto",
        help="Arithmetic of the encoder; auto is bf16 on a GPU that has it, elsewhere float32, "
        "which is IEEE float32 (never TF32).",
        origin="assumed",
        panel=MACHINE,
    )

    def check(self) -> None:
        """Refuse an empty grid, and seeds and shares that do not exist."""
        super().check()
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        parse_seeds(self.seeds)
        array_task(self.array_task)

    def questions(self) -> "Sequence[Question]":
        """What is asked of every encoder: a question per task and fold, with the data's labels.

        Each command answers for its own data; no encoder and no GPU is needed for it.

        Raises:
            SpeechkdError: the data cannot be read, or does not have the labels.
            TypeError: these settings are of no command.
        """
        raise TypeError(f"{type(self).__name__} asks nothing")

    def recipe(self) -> Recipe:
        """How each cell is trained; `auto` precision is decided by the device.

        Labels of other kinds than values have no scale, and their recipe says `raw`.

        Raises:
            SpeechkdError: a GPU is wanted and there is none, or bf16 is and the GPU has none.
        """
        scale = self.value_scale if getattr(self, "kind", "value") == "value" else "raw"
        if self.precision == "float32":
            return self.part(Recipe, value_scale=scale)
        from pipeline.foundation.devices import device_named, training_precision

        precision = training_precision(self.precision, device_named(self.device))
        return self.part(Recipe, precision=precision, value_scale=scale)


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(CellSettings):
    """Settings of the commands whose examples are texts."""

    max_tokens: int = setting(
        128,
        help="Length of the longest text; longer ones are cut and counted.",
        unit="tokens",
        minimum=4,
        origin="paper",
        panel=RECIPE,
    )
    text_form: TextForm = setting(
        AS_IS,
        help="Form of all texts, of training and test: as they are, in lower case, or in lower "
        "case without punctuation, as transcripts are that some students learnt from.",
        panel=RECIPE,
    )
    pooling: Literal["cls", "mean"] = setting(
        "cls",
        help="A text's vector: that of its first token, or the mean over all tokens.",
        origin="assumed",
        panel=RECIPE,
    )
