"""What `speechkd distill` may be asked: one declaration feeds command line, checks and record."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, flag_name, setting

KD = "Distillation"
STUDENT = "Student"
TRAINING = "Training"
RUNNING = "Running"

OPERATIONAL = {
    "cache", "out", "prepared", "device", "compile", "deterministic", "resume", "dry_run",
    "max_steps", "max_hours", "log_every", "measure_every", "checkpoint_minutes",
    "checkpoint_steps", "keep", "license", "language",
}  # fmt: skip
"""Settings that the trained weights do not depend on: they may change between sittings."""


@dataclass(frozen=True, kw_only=True)
class DistillSettings(Settings):
    """How `speechkd distill` trains a student."""

    cache: str = setting(help="The teacher cache: a path or URL.", argument=True)
    out: Path = setting(help="Folder of the run.")

    kd: list[Literal["none", "nst", "crd", "infonce", "l1", "cosine"]] = setting(
        ["crd"],
        help="Objective, or several; none is masked-LM training alone (the paper's "
        "transcription-BERT). Of the paper's two, crd and nst, the default is the one that carried "
        "a planted signal at the paper's own γ and τ (docs/objectives.md).",
        panel=KD,
    )
    gamma: list[float] = setting(
        [],
        help="Weight γ of each objective, in their order. By default 1, the paper's; for nst 10 "
        "(batch) or 100 (vector), since at 1 these carried little or nothing of a planted signal.",
        panel=KD,
    )
    temperature: float | None = setting(
        None,
        help="Temperature τ: 0.01 for crd by default (the paper's), 0.1 for infonce (WhisBERT's).",
        minimum=1e-4,
        panel=KD,
    )
    nst_pattern: Literal["vector", "batch", "token", "sequence"] = setting(
        "batch",
        help="What nst takes as a neuron's pattern (docs/nst.md). batch carried a planted signal, "
        "vector did at a larger weight; token (Eq. 3 read literally) and sequence see one number "
        "of the teacher a clip, or none.",
        origin="assumed",
        panel=KD,
    )
    nst_normalize: bool = setting(
        True, help="Give nst's patterns length 1.", origin="assumed", panel=KD
    )
    crd_bias: Literal["calibrated", "paper", "learned"] = setting(
        "calibrated",
        help="Bias of crd's logits; paper is Eq. 5 as printed, which carried no planted signal.",
        panel=KD,
    )
    crd_negatives: int = setting(
        0,
        help="Extra negatives drawn from the whole cache at each step.",
        unit="clips",
        minimum=0,
        panel=KD,
    )
    crd_symmetric: bool = setting(False, help="Let the teacher also pick the text.", panel=KD)
    teacher_side: Literal["auto", "none", "center", "standardize"] = setting(
        "auto",
        help="What is done to the teacher's vectors; auto: none for nst vector, token and "
        "sequence, standardize for all else.",
        origin="assumed",
        panel=KD,
    )
    projection: Literal["mlp", "linear", "none"] = setting(
        "mlp",
        help="Head from student to teacher width, thrown away after training.",
        origin="assumed",
        panel=KD,
    )
    kd_tokens: Literal["all", "cls", "mean"] = setting(
        "all", help="Student vectors that are compared.", origin="paper", panel=KD
    )
    kd_pass: Literal["masked", "clean"] = setting(
        "masked",
        help="Which tokens the student sees for distillation; clean takes a second pass.",
        origin="assumed",
        panel=KD,
    )
    kd_special: bool = setting(
        True, help="Count special tokens such as CLS too.", origin="assumed", panel=KD
    )
    control: Literal["real", "shuffled", "random"] = setting(
        "real",
        help="Teacher vectors: the clips' own, other clips', or noise. A gain that the last two "
        "also give is not distillation.",
        panel=KD,
    )

    student: str = setting(
        "bert-base",
        help="bert-base (12 layers, 768 wide), bert-small (4, 512), bert-mini (4, 256), bert-tiny "
        "(2, 128), or a Hugging Face config.json; fresh weights.",
        origin="paper",
        panel=STUDENT,
    )
    init: str | None = setting(
        None, help="Folder or hub id of a masked-LM encoder to go on from instead.", panel=STUDENT
    )
    tokenizer: str | None = setting(
        None,
        help="Folder or hub id of a tokenizer; by default that of --init, or a new WordPiece "
        "trained on the cache's texts.",
        panel=STUDENT,
    )
    vocab_size: int = setting(
        30522,
        help="Pieces of a new WordPiece, at the most.",
        minimum=100,
        origin="assumed",
        panel=STUDENT,
    )
    lowercase: bool = setting(
        True,
        help="Whether a new WordPiece drops case and accents.",
        origin="assumed",
        panel=STUDENT,
    )
    dropout: float = setting(
        0.1,
        help="Dropout of a fresh student.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
        panel=STUDENT,
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer ones are cut and counted.",
        unit="tokens",
        minimum=4,
        maximum=512,
        origin="paper",
        panel=STUDENT,
    )

    epochs: float = setting(
        40.0,
        help="Passes over the clips.",
        minimum=1e-6,
        maximum=1e6,
        origin="paper",
        panel=TRAINING,
    )
    batch: int = setting(
        256,
        help="Clips in a batch, over all processes.",
        unit="clips",
        minimum=2,
        origin="paper",
        panel=TRAINING,
    )
    learning_rate: float = setting(
        1e-4, help="Peak of the learning rate.", minimum=0, origin="paper", panel=TRAINING
    )
    warmup: int = setting(
        10_000,
        help="Linear warm-up; where it would take over half of the run, a tenth of the run does "
        "instead. The decay to 0 after it is linear, which is assumed.",
        unit="steps",
        minimum=0,
        origin="paper",
        panel=TRAINING,
    )
    weight_decay: float = setting(
        0.01, help="AdamW's decay of matrices.", minimum=0, origin="paper", panel=TRAINING
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
    mask_share: float = setting(
        0.15,
        help="Share of tokens to predict; 80 % of them masked, 10 % replaced, 10 % kept.",
        minimum=0.01,
        maximum=0.9,
        origin="paper",
        panel=TRAINING,
    )
    precision: Literal["auto", "bf16", "float32"] = setting(
        "auto", help="auto: bf16 (the paper's) on a GPU, float32 on a CPU.", panel=TRAINING
    )
    seed: int = setting(
        0,
        help="Of weights, order, masks and dropout.",
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
        help="Folder for the tokens and vectors that are made ready once for all runs of a cache; "
        "by default CACHE.prepared, or one in the user's cache folder where that cannot be "
        "written.",
        panel=RUNNING,
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", help="Where to train.", panel=RUNNING)
    compile: Literal["auto", "yes", "no"] = setting(
        "auto",
        help="Compile the encoder for one fixed shape; auto: on a GPU, where a C "
        "compiler and Python.h are at hand. It changes rounding.",
        panel=RUNNING,
    )
    deterministic: bool = setting(
        False,
        help="Make torch use deterministic algorithms alone, so that a run with a stop between "
        "equals one without, bit for bit, on a GPU as it does on a CPU anyway; slower.",
        panel=RUNNING,
    )
    resume: Literal["auto", "never", "always"] = setting(
        "auto",
        help="Go on from the latest checkpoint where there is one, never, or insist.",
        panel=RUNNING,
    )
    max_steps: int = setting(
        0,
        help="Stop after so many steps, leaving the schedule as it is; 0 for no limit.",
        unit="steps",
        minimum=0,
        panel=RUNNING,
    )
    max_hours: float = setting(
        0.0, help="Stop after this long; 0 for no limit.", unit="h", minimum=0, panel=RUNNING
    )
    log_every: int = setting(
        10, help="Steps between logged lines.", unit="steps", minimum=1, panel=RUNNING
    )
    measure_every: int = setting(
        100,
        help="Steps between measurements of gradient ratio and cosine to the teacher; a multiple "
        "of --log-every.",
        unit="steps",
        minimum=1,
        panel=RUNNING,
    )
    checkpoint_minutes: float = setting(
        15.0, help="Time between checkpoints; 0 for none.", unit="min", minimum=0, panel=RUNNING
    )
    checkpoint_steps: int = setting(
        0, help="Steps between checkpoints; 0 for none.", unit="steps", minimum=0, panel=RUNNING
    )
    keep: int = setting(2, help="Checkpoints to keep.", minimum=1, panel=RUNNING)
    license: str = setting("unknown", help="Licence named in the model card.", panel=RUNNING)
    language: str = setting("en", help="Language named in the model card.", panel=RUNNING)
    dry_run: bool = setting(
        False,
        help="Make tokens and vectors ready, print the plan, and stop before the first step.",
    )

    def check(self) -> None:
        """Refuse combinations that contradict each other."""
        if len(set(self.kd)) < len(self.kd) or ("none" in self.kd and len(self.kd) > 1):
            raise SpeechkdError(
                f"--kd {','.join(self.kd)}: name each objective once, and none by itself."
            )
        if self.gamma and len(self.gamma) != len(self.objectives()):
            raise SpeechkdError(
                f"--gamma is given {len(self.gamma)} times for {len(self.objectives())} "
                "objectives. Give one for each, in the order of --kd."
            )
        if any(not 0 < gamma < 1e9 for gamma in self.gamma):
            raise SpeechkdError(f"--gamma is {self.gamma}; each must be positive and finite.")
        if self.crd_negatives and "crd" not in self.kd:
            raise SpeechkdError("--crd-negatives needs --kd crd.")
        if self.measure_every % self.log_every:
            raise SpeechkdError(
                f"--measure-every {self.measure_every} is no multiple of --log-every "
                f"{self.log_every}."
            )

    def objectives(self) -> list[str]:
        """The objectives asked for, without `none`."""
        return [name for name in self.kd if name != "none"]

    def without_effect(self) -> set[str]:
        """Settings that change nothing in this run, whatever their value."""
        idle: set[str] = set()
        if not self.objectives():
            idle |= {
                "gamma", "temperature", "teacher_side", "projection", "kd_tokens", "kd_pass",
                "kd_special", "control",
            }  # fmt: skip
        if "nst" not in self.kd:
            idle |= {"nst_pattern", "nst_normalize"}
        if "crd" not in self.kd:
            idle |= {"crd_bias", "crd_negatives", "crd_symmetric"}
        if not {"crd", "infonce"} & set(self.kd):
            idle.add("temperature")
        if self.kd_tokens == "cls":
            idle.add("kd_special")
        if self.init:
            idle.add("student")
        if self.init or self.student.endswith(".json"):
            idle.add("dropout")
        if self.init or self.tokenizer:
            idle |= {"vocab_size", "lowercase"}
        return idle

    def assumed(self) -> dict[str, Any]:
        """Settings left at a default that the paper does not state, and that have an effect."""
        idle = self.without_effect()
        return {name: value for name, value in super().assumed().items() if name not in idle}

    def stated_in_paper(self) -> dict[str, Any]:
        """Settings left at the value that the paper states, and that have an effect."""
        idle = self.without_effect()
        return {
            name: value for name, value in super().stated_in_paper().items() if name not in idle
        }

    def set_in_vain(self) -> list[str]:
        """Settings that were given another value than the default, but change nothing here."""
        idle = self.without_effect()
        return [
            flag_name(f)
            for f in fields(self)
            if f.name in idle and f.default is not MISSING and getattr(self, f.name) != f.default
        ]

    def record(self) -> dict[str, Any]:
        """The settings as plain JSON values, the objectives by commas as on the command line."""
        return {**super().record(), "kd": ",".join(self.kd)}
