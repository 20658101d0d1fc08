"""What `speechkd pretrain whisbert` may be asked."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import like, setting
from pipeline.pretraining.settings import PretrainSettings
from pipeline.pretraining.whisbert.losses import HEAR, HIDE, JOIN, Loss
from pipeline.training.text_settings import TextSettings

LOSS = "Losses"
HIDING = "Hidden audio"
AUDIO = "Audio and fusion encoders"
TEXT = "Text encoder"


@dataclass(frozen=True, kw_only=True)
class WhisbertSettings(PretrainSettings):
    """How `speechkd pretrain whisbert` trains text, audio and fusion encoders."""

    cache: str = setting(
        help="The cache of frames (speechkd extract-features --features whisper-mel): a path or "
        "URL.",
        argument=True,
        operational=True,
    )

    losses: list[Loss] = setting(
        ["mlm", "mam", "mmc", "mmm", "atm"],
        help="Losses that are on, mlm among them: masked language, masked audio, contrast of "
        "clips, masked multimodal, audio-text matching. mlm alone is the text-only twin, which "
        "hears no audio. Only what a loss needs is built.",
        origin="paper",
        panel=LOSS,
    )
    weights: list[float] = setting(
        [],
        help="Weight of each loss, in the order of --losses; 1 each by default. A loss of weight 0 "
        "is measured and teaches nothing.",
        origin="assumed",
        panel=LOSS,
    )
    control: Literal["real", "shuffled", "random"] = setting(
        "real",
        help="Whose audio a text is joined with: its own, another clip's, or noise. A gain that a "
        "control gives as well is not the audio's.",
        panel=LOSS,
        idle_without="audio",
    )
    twin: Path | None = setting(
        None,
        help="Folder of a run that differs in its losses alone, to be compared with this one. "
        "Whatever else differs is refused.",
        panel=LOSS,
        operational=True,
    )
    mmc_temperature: float | None = setting(
        None,
        help="Temperature of the contrast of clips. By default it is learned from 0.07 on, between "
        "0.01 and 1, as in FLAVA.",
        minimum=1e-3,
        maximum=100,
        origin="assumed",
        panel=LOSS,
        idle_without="mmc",
    )
    mam_temperature: float = setting(
        0.1,
        help="Temperature κ of the contrast of patches.",
        minimum=1e-3,
        maximum=100,
        origin="paper",
        panel=LOSS,
        idle_without="hidden audio",
    )

    mam_share: float = setting(
        0.4,
        help="Share of a clip's patches to hide.",
        minimum=0.01,
        maximum=0.9,
        origin="assumed",
        panel=HIDING,
        idle_without="hidden audio",
    )
    mam_span: int = setting(
        5,
        help="Neighbouring patches that are hidden together. 1 is the paper's letter, and the "
        "frames that a patch shares with its neighbours then give it away.",
        unit="patches",
        minimum=1,
        maximum=100,
        origin="assumed",
        panel=HIDING,
        idle_without="hidden audio",
    )
    mam_negatives: int = setting(
        20,
        help="Other patches of the clip that a hidden one is told from; drawn with replacement.",
        minimum=1,
        maximum=1000,
        origin="paper",
        panel=HIDING,
        idle_without="hidden audio",
    )
    mam_among: Literal["masked", "all"] = setting(
        "masked",
        help="Whether they are hidden patches too, or any (the paper's letter).",
        origin="assumed",
        panel=HIDING,
        idle_without="hidden audio",
    )

    features: Literal["mel", "hidden"] = setting(
        "mel",
        help="What the cache holds: log-mel frames, or hidden states of an encoder that was "
        "trained on speech (extract-teacher --keep states), which BabyLM's rules forbid.",
        panel=AUDIO,
        idle_without="audio",
    )
    init_audio: str = setting(
        "",
        help="What the audio encoder begins with: a run of pretrain whisbert (its whole audio "
        "encoder), or a Whisper (offline:base, a folder or a hub id), of which it takes the first "
        "--audio-layers layers. Whisper learnt from transcribed speech, which BabyLM's rules "
        "forbid. The default is fresh weights.",
        origin="paper",
        panel=AUDIO,
        idle_without="audio",
    )
    width: int = setting(
        768,
        help="Width of the audio and fusion encoders.",
        minimum=8,
        maximum=8192,
        origin="assumed",
        panel=AUDIO,
        idle_without="audio",
    )
    heads: int = setting(
        12,
        help="Attention heads of both.",
        minimum=1,
        maximum=256,
        origin="assumed",
        panel=AUDIO,
        idle_without="audio",
    )
    audio_layers: int = setting(
        6,
        help="Layers of the audio encoder.",
        minimum=1,
        maximum=100,
        origin="assumed",
        panel=AUDIO,
        idle_without="audio",
    )
    fusion_layers: int = setting(
        6,
        help="Layers of the fusion encoder (the released code has 12, FLAVA 6).",
        minimum=1,
        maximum=100,
        origin="assumed",
        panel=AUDIO,
        idle_without="joined sides",
    )
    stem_norm: bool = setting(
        True,
        help="A layer norm behind the stem. Without it (the paper's letter) fresh patches are a "
        "seventeenth of the size of their positions.",
        origin="assumed",
        panel=AUDIO,
        idle_without="audio",
    )

    student: str = setting(
        "bert-base",
        help="Text encoder with fresh weights: bert-base (12 layers, 768 wide), bert-small (4, "
        "512), bert-mini (4, 256), bert-tiny (2, 128), or a Hugging Face config.json.",
        origin="assumed",
        panel=TEXT,
        idle_without="a fresh text encoder",
    )
    init_text: str | None = setting(
        None,
        help="Text encoder to train further, instead of a fresh one: a run of distill or of "
        "pretrain whisbert, or a folder or hub id of a masked LM. One that has read other texts "
        "is outside BabyLM's rules.",
        origin="paper",
        panel=TEXT,
    )
    tokenizer: str | None = setting(
        None,
        help="Folder or hub id of a tokenizer. The default is that of --init-text, or a new "
        "WordPiece trained on the cache's texts (the paper's).",
        panel=TEXT,
    )
    vocab_size: int = like(TextSettings, "vocab_size", panel=TEXT)
    lowercase: bool = like(TextSettings, "lowercase", panel=TEXT)
    dropout: float = like(
        TextSettings,
        "dropout",
        help="Dropout of the text encoder's hidden states; nothing else drops anything.",
        panel=TEXT,
        idle_without="a preset",
    )
    max_tokens: int = like(TextSettings, "max_tokens", panel=TEXT)
    mask_share: float = like(
        TextSettings,
        "mask_share",
        help="Share of tokens to predict: 80 % of them masked, 10 % replaced, 10 % kept. Fused "
        "states predict the same ones.",
        panel=TEXT,
    )

    epochs: float = like(PretrainSettings, "epochs", 5.0, origin="paper")
    batch: int = like(PretrainSettings, "batch", 256)
    hold_out_by: Literal["speaker", "recording"] = like(
        PretrainSettings, "hold_out_by", "recording"
    )
    measure_every: int = like(
        PretrainSettings,
        "measure_every",
        help="Steps between measurements of gains, spread and gradients; a multiple of "
        "--log-every.",
    )

    def check(self) -> None:
        """Refuse combinations that contradict each other."""
        super().check()
        named = ",".join(self.losses)
        if len(set(self.losses)) < len(self.losses):
            raise SpeechkdError(f"--losses {named}: name each loss once.")
        if "mlm" not in self.losses:
            raise SpeechkdError(
                f"--losses {named}: mlm must be among them, because it trains the text encoder "
                "that the run hands on."
            )
        if self.weights and len(self.weights) != len(self.losses):
            raise SpeechkdError(
                f"--weights has {len(self.weights)} values, but --losses names {len(self.losses)}. "
                "Give one per loss, in the order of --losses."
            )
        if any(not 0 <= weight < 1e9 for weight in self.weights):
            raise SpeechkdError(f"--weights is {self.weights}; each must be at least 0 and finite.")
        if self.weight_of()["mlm"] == 0:
            raise SpeechkdError(
                "--weights: mlm must weigh more than 0; it trains the text encoder."
            )
        if self.width % self.heads or self.width % 2:
            raise SpeechkdError(
                f"--width {self.width} must be even and a multiple of --heads {self.heads}."
            )

    def weight_of(self) -> dict[Loss, float]:
        """The weight of each loss that is on."""
        return dict(zip(self.losses, self.weights or [1.0] * len(self.losses), strict=True))

    def choices(self) -> set[str]:
        """What is chosen, in the words of `idle_without`."""
        on = set(self.losses)
        chosen = {
            "audio": bool(on & HEAR),
            "hidden audio": bool(on & HIDE),
            "joined sides": bool(on & JOIN),
            "mmc": "mmc" in on,
            "a fresh text encoder": not self.init_text,
            "a preset": not self.init_text and not self.student.endswith(".json"),
            "a new tokenizer": not self.init_text and not self.tokenizer,
        }
        return {name for name, is_so in chosen.items() if is_so}

    def record(self) -> dict[str, Any]:
        """The settings as plain JSON values, the losses joined by commas."""
        return {**super().record(), "losses": ",".join(self.losses)}

    @classmethod
    def of_losses(cls) -> set[str]:
        """Names of the settings in which a run may differ from its twin."""
        return {f.name for f in fields(cls) if f.metadata["panel"] in (LOSS, HIDING, AUDIO)}
