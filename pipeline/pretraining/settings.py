"""What every `speechkd pretrain` may be asked; each method's settings add to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.settings import like, setting
from pipeline.training.settings import RUNNING, TRAINING, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TrainingSettings):
    """How `speechkd pretrain` trains, whatever the method."""

    warmup_fraction: float = setting(
        0.1,
        help="Share of all steps in which the rate rises; after them it falls linearly to 0.",
        minimum=0,
        maximum=1,
        origin="assumed",
        panel=TRAINING,
    )
    held_out: float = like(
        TrainingSettings,
        "held_out",
        help="Share of clips held out for validation, by whole speakers or recordings.",
    )
    hold_out_by: Literal["speaker", "recording"] = setting(
        "speaker",
        help="What no two sides share. Where no speaker is known it is the recording.",
        panel=TRAINING,
    )
    stage_to: Path | None = setting(
        None,
        help="Folder on a disk of this machine that the caches are copied to once, if they lie in "
        "object storage or on a disk that many machines share.",
        panel=RUNNING,
        operational=True,
    )
