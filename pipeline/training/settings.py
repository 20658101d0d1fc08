"""What every training of stage two may be asked: how long, how fast, where, and what it leaves.

A method's own settings add to these. Where its paper states a value, they declare the field again
with `like`, so that the origin of every default is on record.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

TRAINING = "Training"
RUNNING = "Running"


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """How a run trains, and where."""

    out: Path = setting(help="Folder of the run.", operational=True)

    epochs: float = setting(
        40.0,
        help="Passes over the clips.",
        minimum=1e-6,
        maximum=1e6,
        origin="assumed",
        panel=TRAINING,
    )
    batch: int = setting(
        64,
        help="Clips per batch, over all processes.",
        flag="--batch-size",
        unit="clips",
        minimum=2,
        origin="assumed",
        panel=TRAINING,
    )
    learning_rate: float = setting(
        1e-4, help="Peak of the learning rate.", minimum=0, origin="assumed", panel=TRAINING
    )
    weight_decay: float = setting(
        0.01,
        help="AdamW's weight decay, on matrices only.",
        minimum=0,
        origin="assumed",
        panel=TRAINING,
    )
    adam_epsilon: float = setting(
        1e-6, help="AdamW's epsilon.", minimum=0, origin="assumed", panel=TRAINING
    )
    clip_norm: float = setting(
        1.0,
        help="Largest gradient norm; 0 for no clipping.",
        minimum=0,
        origin="assumed",
        panel=TRAINING,
    )
    precision: Literal["auto", "bf16", "float32"] = setting(
        "auto",
        help="auto: bf16 on a GPU that has it, elsewhere float32, which is IEEE float32 (never "
        "TF32).",
        panel=TRAINING,
    )
    seed: int = setting(
        0,
        help="Seed of weights, order, masks and dropout.",
        minimum=0,
        maximum=2**63 - 1,
        panel=TRAINING,
    )
    held_out: float = setting(
        0.01,
        help="Share of clips held out for validation, by whole recordings.",
        minimum=0,
        maximum=0.5,
        panel=TRAINING,
    )

    prepared: Path | None = setting(
        None,
        help="Folder for what is prepared once for all runs of a cache, such as tokens. The "
        "default is CACHE.prepared, or a folder in the user's cache if that cannot be written.",
        panel=RUNNING,
        operational=True,
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to train.", panel=RUNNING, operational=True
    )
    deterministic: bool = setting(
        False,
        help="Use only deterministic algorithms of torch. An interrupted run then equals one "
        "without a stop, bit for bit, on a GPU too (on a CPU it does anyway). Slower.",
        panel=RUNNING,
        operational=True,
    )
    resume: Literal["auto", "never", "always"] = setting(
        "auto",
        help="Go on from the latest checkpoint if there is one (auto), start anew (never), or "
        "insist that there is a run to go on from (always).",
        panel=RUNNING,
        operational=True,
    )
    max_steps: int = setting(
        0,
        help="Stop after this many steps and leave the schedule as it is; 0 for no limit.",
        unit="steps",
        minimum=0,
        panel=RUNNING,
        operational=True,
    )
    max_hours: float = setting(
        0.0,
        help="Stop after this time; 0 for no limit.",
        unit="h",
        minimum=0,
        panel=RUNNING,
        operational=True,
    )
    log_every: int = setting(
        10,
        help="Steps between logged lines.",
        unit="steps",
        minimum=1,
        panel=RUNNING,
        operational=True,
    )
    measure_every: int = setting(
        100,
        help="Steps between measurements that cost time; a multiple of --log-every.",
        unit="steps",
        minimum=1,
        panel=RUNNING,
        operational=True,
    )
    checkpoint_minutes: float = setting(
        15.0,
        help="Time between checkpoints; 0 for none.",
        unit="min",
        minimum=0,
        panel=RUNNING,
        operational=True,
    )
    checkpoint_steps: int = setting(
        0,
        help="Steps between checkpoints; 0 for none.",
        unit="steps",
        minimum=0,
        panel=RUNNING,
        operational=True,
    )
    keep: int = setting(
        2,
        help="How many of the latest checkpoints to keep.",
        minimum=1,
        panel=RUNNING,
        operational=True,
    )
    license: str = setting(
        "unknown", help="Licence to name in the model card.", panel=RUNNING, operational=True
    )
    language: str = setting(
        "en", help="Language to name in the model card.", panel=RUNNING, operational=True
    )
    dry_run: bool = setting(
        False,
        help="Prepare the data, print the plan, and stop before the first step.",
        operational=True,
    )

    def check(self) -> None:
        """Refuse measurements that would fall between logged lines."""
        if self.measure_every % self.log_every:
            raise SpeechkdError(
                f"--measure-every {self.measure_every} is not a multiple of --log-every "
                f"{self.log_every}."
            )
