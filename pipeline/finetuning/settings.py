"""What every fine-tuning command shares: the grid, the recipe, the machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.cluster.shares import array_task
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.foundation.settings import Settings, setting

GRID, RECIPE, MACHINE, DATA = "The grid", "The recipe", "The machine", "The data"


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """Settings of the grid, the recipe and the machine."""

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
            "Teacher cache (path or URL) with these clips' recordings, its samples' keys being the "
            "clips' ids (of MOSEI: video[clip]): the report then shows the teacher's vectors "
            "beside the encoders'. Nothing is trained with it."
        ),
        panel=DATA,
    )
    array_task: str = setting(
        "",
        help=(
            "I/N: run part I of N (from 0) of the grid; by default what the scheduler's own "
            "variables say, else all of it."
        ),
        panel=GRID,
    )
    dry_run: bool = setting(False, help="Check everything, print the cells, train nothing.")

    epochs: int = setting(
        3, help="Passes over the training split.", minimum=1, origin="paper", panel=RECIPE
    )
    learning_rate: float = setting(
        2e-5, help="Peak learning rate.", minimum=1e-9, origin="paper", panel=RECIPE
    )
    batch_size: int = setting(
        32, help="Clips a step.", unit="clips", minimum=1, origin="paper", panel=RECIPE
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer ones are cut and counted.",
        unit="tokens",
        minimum=4,
        origin="paper",
        panel=RECIPE,
    )
    pooling: Literal["cls", "mean"] = setting(
        "cls",
        help="A text's vector: its first token's, or the mean of all.",
        origin="assumed",
        panel=RECIPE,
    )
    head: Literal["tanh", "linear"] = setting(
        "tanh",
        help="Fresh head: dense, tanh, dropout, linear (as BERT's own classifier), or linear only.",
        origin="assumed",
        panel=RECIPE,
    )
    warmup_fraction: float = setting(
        0.1,
        help="Part of all steps in which the rate climbs; then it falls linearly to 0.",
        minimum=0,
        maximum=1,
        origin="assumed",
        panel=RECIPE,
    )
    weight_decay: float = setting(
        0.01, help="AdamW's decay of matrices.", minimum=0, origin="assumed", panel=RECIPE
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
        help="Largest norm of the gradient; 0 for no limit.",
        minimum=0,
        origin="assumed",
        panel=RECIPE,
    )
    regression_loss: Literal["mse", "l1"] = setting(
        "mse", help="Loss of the regression task.", origin="assumed", panel=RECIPE
    )
    selection: Literal["last", "best-valid"] = setting(
        "last",
        help="Weights that are tested: the last, or of the epoch best on the validation split.",
        origin="assumed",
        panel=RECIPE,
    )

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to train; auto takes a GPU where there is one.", panel=MACHINE
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        help="Arithmetic of the encoder; auto is bf16 on a GPU and fp32 on a CPU.",
        origin="assumed",
        panel=MACHINE,
    )

    def check(self) -> None:
        """Refuse an empty grid and parts that are not there."""
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        parse_seeds(self.seeds)
        array_task(self.array_task)
