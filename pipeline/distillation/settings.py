"""What `speechkd distill` may be asked: one declaration feeds command line, checks and record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.settings import like, setting
from pipeline.training.settings import RUNNING, TRAINING, TrainingSettings
from pipeline.training.text_settings import TextSettings

Level = Literal["clip", "word"]
KD = "Distillation"
STUDENT = "Student"
TEXTS = "Texts without speech"


@dataclass(frozen=True, kw_only=True)
class DistillSettings(TrainingSettings):
    """How `speechkd distill` trains a student."""

    cache: str | None = setting(
        None,
        help="The teacher cache: a path or URL. With --kd none a cache of any kind will do, for "
        "its texts, or none at all beside --texts.",
        argument=True,
        operational=True,
    )
    texts: list[Path] = setting(
        [],
        help="A table of texts that nobody spoke (CSV, TSV, JSON lines, JSON, Parquet, or .txt "
        "with a text per line), for masked-LM training alone; once for each table. Beside a cache "
        "they get no distillation loss; without one they need --kd none.",
        panel=TEXTS,
        operational=True,
    )
    text_column: str = setting(
        "",
        help="Column of the texts. The default is text, sentence, transcript or another usual "
        "name.",
        panel=TEXTS,
        operational=True,
        idle_without="tables of texts",
    )
    recording_column: str = setting(
        "",
        help="Column of what texts are of, such as a conversation: it is trained on or held out as "
        "a whole. The default is recording, or another usual name, if there is one.",
        panel=TEXTS,
        operational=True,
        idle_without="tables of texts",
    )

    kd: list[Literal["none", "nst", "crd", "infonce", "l1", "cosine"]] = setting(
        ["crd"],
        help="One or more objectives; none is masked-LM training alone (the paper's "
        "transcription-BERT). The default is the one of the paper's two, crd and nst, that carried "
        "a planted signal at the paper's own γ and τ (docs/objectives.md).",
        panel=KD,
    )
    level: Literal["clip", "word", "clip+word", "token"] = setting(
        "clip",
        help="What a vector of the teacher teaches: the text of its clip, or the tokens of its "
        "word. word needs a cache of words (speechkd extract-teacher --keep words), which is CACHE "
        "itself or --words; clip+word needs both kinds. token needs a cache of token vectors "
        "(speechkd extract-heard, extract-text) and its tokenizer: each vector teaches its token.",
        panel=KD,
        idle_without="an objective",
    )
    words: str | None = setting(
        None,
        help="The cache of words, or of tokens, if it is not CACHE. Its clips are joined to those "
        "of CACHE by key.",
        panel=KD,
        operational=True,
        idle_without="words",
    )
    gamma: list[float] = setting(
        [],
        help="Weight γ of each objective, in their order. The default is 1, the paper's; for nst "
        "it is 10 (batch) or 100 (vector), because at 1 these carried little or nothing of a "
        "planted signal.",
        panel=KD,
        idle_without="an objective",
    )
    word_gamma: list[float] = setting(
        [],
        help="Weight γ of each objective at the level of words, if it is another one than at the "
        "level of clips.",
        panel=KD,
        idle_without="words or tokens",
    )
    word_tokens: Literal["first", "mean"] = setting(
        "first",
        help="What a word's vector teaches: the first of its tokens, or their mean.",
        panel=KD,
        idle_without="the level of words",
    )
    same_word_negatives: bool = setting(
        False,
        help="Let other places of the same word be negatives in crd. Without it a text is never "
        "asked to tell a word from itself.",
        panel=KD,
        idle_without="words or tokens",
    )
    temperature: float | None = setting(
        None,
        help="Temperature τ. The default is 0.01 for crd (the paper's) and 0.1 for infonce "
        "(WhisBERT's).",
        minimum=1e-4,
        panel=KD,
        idle_without="a temperature",
    )
    nst_pattern: Literal["vector", "batch", "token", "sequence"] = setting(
        "batch",
        help="What nst takes as a neuron's pattern (docs/nst.md). batch carried a planted signal; "
        "vector did so at a larger weight. token (Eq. 3 read literally) and sequence see one "
        "number of the teacher per clip, or none.",
        origin="assumed",
        panel=KD,
        idle_without="nst",
    )
    nst_normalize: bool = setting(
        True, help="Give nst's patterns length 1.", origin="assumed", panel=KD, idle_without="nst"
    )
    crd_bias: Literal["calibrated", "paper", "learned"] = setting(
        "calibrated",
        help="Bias of crd's logits. paper is Eq. 5 as printed; it carried no planted signal.",
        panel=KD,
        idle_without="crd",
    )
    crd_negatives: int = setting(
        0,
        help="Extra negatives drawn from the whole cache at each step, for crd: clips, and as many "
        "words at the level of words.",
        minimum=0,
        panel=KD,
        idle_without="crd",
    )
    crd_symmetric: bool = setting(
        False, help="Also let the teacher pick the text, in crd.", panel=KD, idle_without="crd"
    )
    teacher_side: Literal[
        "auto", "none", "center", "standardize", "within-speaker", "within-word"
    ] = setting(
        "auto",
        help="What is done to the teacher's vectors. auto is none for nst's vector, and for token "
        "and sequence at the level of clips, and standardize for everything else. within-speaker "
        "first takes away the mean of the speaker (or of the recording, where no speaker is "
        "known), within-word that of all words spelled alike, which leaves how it was said; at the "
        "level of clips it takes away that of the clip's words, and needs --words.",
        origin="assumed",
        panel=KD,
        idle_without="an objective",
    )
    projection: Literal["mlp", "linear", "none"] = setting(
        "mlp",
        help="Head from student to teacher width, thrown away after training.",
        origin="assumed",
        panel=KD,
        idle_without="an objective",
    )
    kd_tokens: Literal["all", "cls", "mean"] = setting(
        "all",
        help="Student vectors to compare: every token's, the first token's, or each clip's mean.",
        origin="paper",
        panel=KD,
        idle_without="the level of clips",
    )
    kd_pass: Literal["masked", "clean"] = setting(
        "masked",
        help="Which tokens the student sees for distillation; clean needs a second pass.",
        origin="assumed",
        panel=KD,
        idle_without="an objective",
    )
    kd_special: bool = setting(
        True,
        help="Also count special tokens such as CLS.",
        origin="assumed",
        panel=KD,
        idle_without="special tokens",
    )
    control: Literal["real", "shuffled", "shuffled-words", "random"] = setting(
        "real",
        help="Teacher vectors: the clips' own, other clips', those of other words of the same clip "
        "(at the level of words), or noise. A gain that a control gives as well is not "
        "distillation.",
        panel=KD,
        idle_without="an objective",
    )

    student: str = setting(
        "bert-base",
        help="Student with fresh weights: bert-base (12 layers, 768 wide), bert-small (4, 512), "
        "bert-mini (4, 256), bert-tiny (2, 128), or a Hugging Face config.json.",
        origin="paper",
        panel=STUDENT,
        idle_without="a fresh student",
    )
    init: str | None = setting(
        None,
        help="Text encoder to train further, instead of a fresh one: a run of distill or of "
        "pretrain whisbert, or a folder or hub id of a masked LM.",
        panel=STUDENT,
    )
    tokenizer: str | None = setting(
        None,
        help="Folder or hub id of a tokenizer. The default is that of --init, or a new WordPiece "
        "trained on all texts.",
        panel=STUDENT,
    )
    vocab_size: int = like(TextSettings, "vocab_size", panel=STUDENT)
    lowercase: bool = like(TextSettings, "lowercase", panel=STUDENT)
    dropout: float = like(
        TextSettings,
        "dropout",
        help="Dropout of a fresh student's hidden states; its attention drops nothing.",
        panel=STUDENT,
        idle_without="a preset",
    )
    max_tokens: int = like(TextSettings, "max_tokens", origin="paper", panel=STUDENT)

    epochs: float = like(TrainingSettings, "epochs", 40.0, origin="paper")
    batch: int = like(TrainingSettings, "batch", 256, formerly="--batch", origin="paper")
    learning_rate: float = like(TrainingSettings, "learning_rate", 1e-4, origin="paper")
    warmup: int = setting(
        10_000,
        help="Linear warm-up. If it would take over half of the run, it takes a tenth of it "
        "instead. The linear decay to 0 after it is assumed.",
        unit="steps",
        minimum=0,
        origin="paper",
        panel=TRAINING,
    )
    weight_decay: float = like(TrainingSettings, "weight_decay", 0.01, origin="paper")
    mask_share: float = like(TextSettings, "mask_share", origin="paper", panel=TRAINING)
    precision: Literal["auto", "bf16", "float32"] = like(
        TrainingSettings,
        "precision",
        help="auto: bf16 (the paper's) on a GPU that has it, elsewhere float32, which is IEEE "
        "float32 (never TF32).",
    )

    stage_to: Path | None = setting(
        None,
        help="Folder on a disk of this machine that the cache of words is copied to once, if it "
        "lies in object storage or on a disk that many machines share.",
        panel=RUNNING,
        operational=True,
        idle_without="words",
    )
    compile: Literal["auto", "yes", "no"] = setting(
        "auto",
        help="Compile the encoder for two fixed shapes. auto does so on a GPU for 5,000 steps or "
        "more, if there is a C compiler and Python.h. It changes rounding.",
        panel=RUNNING,
        operational=True,
    )
    measure_every: int = like(
        TrainingSettings,
        "measure_every",
        help="Steps between measurements of the gradients' ratio and of the cosine to the teacher; "
        "a multiple of --log-every.",
    )
    dry_run: bool = like(
        TrainingSettings,
        "dry_run",
        help="Prepare tokens and vectors, print the plan, and stop before the first step.",
    )

    def check(self) -> None:
        """Refuse combinations that contradict each other."""
        super().check()
        if not self.cache and not self.texts:
            raise SpeechkdError(
                "there is nothing to train on: name a teacher cache, or tables of texts with "
                "--texts and --kd none."
            )
        if not self.cache and self.objectives():
            raise SpeechkdError(
                f"--kd {','.join(self.kd)} learns from speech, and --texts has none. Add --kd none "
                "to train on the texts alone, or name a teacher cache beside them."
            )
        if len(set(self.kd)) < len(self.kd) or ("none" in self.kd and len(self.kd) > 1):
            raise SpeechkdError(
                f"--kd {','.join(self.kd)}: name each objective once, and none by itself."
            )
        levels = self.levels()
        if self.control == "shuffled-words" and levels == ["clip"]:
            raise SpeechkdError(
                "--control shuffled-words exchanges the words of a clip, and --level clip knows "
                "none. Use --control shuffled."
            )
        if self.teacher_side == "within-word" and levels == ["clip"] and not self.words:
            raise SpeechkdError(
                "--teacher-side within-word takes away what words have in common, and --level clip "
                "knows no words. Name a cache of words with --words; `speechkd extract-teacher "
                "--keep words` makes one."
            )
        if self.level == "token" and self.teacher_side == "within-word" and self.objectives():
            raise SpeechkdError(
                "--teacher-side within-word takes away what words spelled alike have in common, "
                "and --level token knows no words. Use --teacher-side standardize."
            )
        if self.word_gamma and len(self.word_gamma) != len(self.objectives()):
            raise SpeechkdError(
                f"--word-gamma has {counted(len(self.word_gamma), 'value')}, but --kd names "
                f"{counted(len(self.objectives()), 'objective')}. Give one value per objective, "
                "in the order "
                "of --kd."
            )
        if self.gamma and not self.objectives():
            raise SpeechkdError(
                "--gamma weighs an objective, and --kd none has none: leave it out."
            )
        if self.gamma and len(self.gamma) != len(self.objectives()):
            raise SpeechkdError(
                f"--gamma has {counted(len(self.gamma), 'value')}, but --kd names "
                f"{len(self.objectives())} "
                "objectives. Give one value per objective, in the order of --kd."
            )
        for flag, gammas in (("--gamma", self.gamma), ("--word-gamma", self.word_gamma)):
            if any(not 0 < gamma < 1e9 for gamma in gammas):
                raise SpeechkdError(f"{flag} is {gammas}; each must be positive and finite.")
        if self.crd_negatives and "crd" not in self.kd:
            raise SpeechkdError("--crd-negatives needs --kd crd.")

    def objectives(self) -> list[str]:
        """The objectives asked for, without `none`."""
        return [name for name in self.kd if name != "none"]

    def levels(self) -> list[Level]:
        """The levels at which objectives compare; none without an objective."""
        levels: dict[str, list[Level]] = {
            "clip": ["clip"], "word": ["word"], "clip+word": ["clip", "word"], "token": ["word"]
        }  # fmt: skip
        return levels[self.level] if self.objectives() else []

    def needs_words(self) -> bool:
        """Whether anything in this run depends on a cache of words."""
        return "word" in self.levels() or bool(
            self.objectives() and self.teacher_side == "within-word"
        )

    def identity(self) -> dict[str, Any]:
        """The record of the settings that the result depends on.

        A run at the level of clips has that of a version which knew no other level.
        """
        identity = super().identity()
        if "word" not in self.levels():
            for name in ("level", "word_gamma", "word_tokens", "same_word_negatives"):
                del identity[name]
        return identity

    @property
    def is_control(self) -> bool:
        """Whether the teacher's vectors are not the clips' own."""
        return self.control != "real"

    def choices(self) -> set[str]:
        """What is chosen, in the words of `idle_without`."""
        objectives = set(self.objectives())
        chosen = {
            "an objective": bool(objectives),
            "a temperature": bool(objectives & {"crd", "infonce"}),
            "words": self.needs_words(),
            "the level of words": "word" in self.levels() and self.level != "token",
            "words or tokens": "word" in self.levels(),
            "the level of clips": "clip" in self.levels(),
            "special tokens": "clip" in self.levels() and self.kd_tokens != "cls",
            "a fresh student": not self.init,
            "a preset": not self.init and not self.student.endswith(".json"),
            "tables of texts": bool(self.texts),
            "a new tokenizer": not self.init and not self.tokenizer,
        }
        return objectives | {name for name, is_so in chosen.items() if is_so}

    def record(self) -> dict[str, Any]:
        """The settings as plain JSON values, the objectives joined by commas."""
        return {**super().record(), "kd": ",".join(self.kd)}
