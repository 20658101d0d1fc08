"""What `speechkd pretrain masked-audio` and `speechkd pretrain splat` may be asked."""

from dataclasses import dataclass
from typing import Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import like, setting
from pipeline.pretraining.settings import PretrainSettings

SPEECH = "Speech module"
MASKING = "Masked audio"
ALIGNMENT = "Alignment"
FRAMES = "The cache of frames (speechkd extract-features --features whisper-mel): a path or URL."


@dataclass(frozen=True, kw_only=True)
class MaskingSettings(PretrainSettings):
    """How frames are hidden; both commands take these."""

    mask_starts: float = setting(
        0.15,
        help="Share of frames at which a masked span begins. Spans of 4 may overlap, so 15 % of "
        "starts hide 48 % of frames; 0.0398 hides 15 %.",
        minimum=0,
        maximum=1,
        origin="paper",
        panel=MASKING,
        idle_without="masked audio",
    )
    mask_span: int = setting(
        4,
        help="Frames of a masked span; it ends with the clip.",
        unit="frames",
        minimum=1,
        origin="paper",
        panel=MASKING,
        idle_without="masked audio",
    )
    mask_channels: float = setting(
        0.15,
        help="Share of channels that are hidden in a whole clip, each clip's own.",
        minimum=0,
        maximum=1,
        origin="paper",
        panel=MASKING,
        idle_without="masked audio",
    )
    channel_band: int = setting(
        0,
        help="Hide one band of neighbouring channels instead, of a width from 0 to this (TERA: "
        "16); 0 for channels drawn one by one, which their neighbours give away.",
        unit="channels",
        minimum=0,
        panel=MASKING,
        idle_without="masked audio",
    )
    reconstruct: Literal["all", "masked"] = setting(
        "all",
        help="Which cells count in the loss: all (Eq. 1) or those that were hidden.",
        origin="paper",
        panel=MASKING,
        idle_without="masked audio",
    )


@dataclass(frozen=True, kw_only=True)
class MaskedAudioSettings(MaskingSettings):
    """How `speechkd pretrain masked-audio` trains a speech module."""

    frames: str = setting(help=FRAMES, argument=True, operational=True)

    layers: int = setting(
        3, help="Layers of the encoder.", minimum=1, maximum=64, origin="paper", panel=SPEECH
    )
    width: int = setting(
        768, help="Its width.", minimum=8, maximum=4096, origin="paper", panel=SPEECH
    )
    heads: int = setting(
        12, help="Heads of its attention.", minimum=1, maximum=64, origin="paper", panel=SPEECH
    )
    stack: int = setting(
        1,
        help="Frames that become one position; 4 costs a fifth of the time.",
        unit="frames",
        minimum=1,
        maximum=64,
        origin="paper",
        panel=SPEECH,
    )
    read: Literal["cls", "first-frame", "mean"] = setting(
        "cls",
        help="What stands for a whole clip: a learned first position, the first frame (the "
        "paper's, which is silence in four of five clips), or the mean of all frames.",
        panel=SPEECH,
    )
    dropout: float = setting(
        0.1,
        help="Dropout of hidden states; attention drops nothing.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
        panel=SPEECH,
    )
    normalize: Literal["speaker", "recording", "utterance", "global"] = setting(
        "speaker",
        help="Over what each channel gets mean 0 and deviation 1. A clip of unknown speaker takes "
        "its recording, and one of unknown recording itself.",
        origin="paper",
        panel=SPEECH,
    )
    shrink_frames: float = setting(
        500.0,
        help="Statistics of N frames weigh N / (N + this) against those of the whole cache.",
        unit="frames",
        minimum=0,
        panel=SPEECH,
        idle_without="statistics of a part",
    )
    learning_rate: float = like(PretrainSettings, "learning_rate", 2e-4)
    warmup_fraction: float = like(PretrainSettings, "warmup_fraction", 0.07)

    def check(self) -> None:
        """Refuse heads that do not divide the width."""
        super().check()
        if self.width % self.heads:
            raise SpeechkdError(
                f"--width {self.width} is no multiple of --heads {self.heads}. Change one of them."
            )

    def choices(self) -> set[str]:
        """What is chosen, of all that a setting may depend on."""
        parts = set() if self.normalize == "global" else {"statistics of a part"}
        return parts | {"masked audio"}


@dataclass(frozen=True, kw_only=True)
class SplatSettings(MaskingSettings):
    """How `speechkd pretrain splat` aligns a speech module to a text encoder's cached states."""

    frames: str = setting(help=FRAMES, argument=True, operational=True)
    text: str = setting(
        help="The cache of text states of the same clips (speechkd extract-text).",
        operational=True,
    )
    init: str = setting(
        help="The speech module to start from: a run of pretrain masked-audio, or fresh:base for "
        "one of the paper's size with fresh weights.",
        panel=SPEECH,
    )
    align: Literal["seq", "tok", "tok-contrast"] = setting(
        "seq",
        help="What is aligned: the vector of the clip with that of the text (Eq. 2), each token "
        "with its nearest frame (Eq. 3), or Eq. 3 as a choice among the texts of the batch. tok as "
        "printed rewards frames that match many tokens (docs/splat.md).",
        panel=ALIGNMENT,
    )
    text_vector: Literal["cls", "mean"] = setting(
        "cls",
        help="What stands for a text: its first token (the paper's) or the mean of all. mean is "
        "for teachers whose first token was never trained.",
        origin="paper",
        panel=ALIGNMENT,
        idle_without="seq",
    )
    text_side: Literal["standardize", "none"] = setting(
        "standardize",
        help="What is done to the text vectors; none is the paper's letter.",
        panel=ALIGNMENT,
        idle_without="seq",
    )
    projection: Literal["auto", "linear", "none"] = setting(
        "auto",
        help="Head from the width of speech to that of text, thrown away after training. auto is "
        "none where the widths agree (the paper's letter), else linear.",
        origin="assumed",
        panel=ALIGNMENT,
    )
    token_weights: Literal["idf", "uniform"] = setting(
        "idf",
        help="Weight of a token in tok and tok-contrast: idf over the training transcripts, or "
        "the same for all but special ones. uniform is better where texts share a template.",
        origin="paper",
        panel=ALIGNMENT,
        idle_without="tok",
    )
    temperature: float = setting(
        0.05,
        help="Temperature τ of tok-contrast.",
        minimum=1e-4,
        panel=ALIGNMENT,
        idle_without="tok-contrast",
    )
    control: Literal["real", "shuffled", "relabelled", "random"] = setting(
        "real",
        help="Text states: the clips' own, other clips', those of another text (each distinct text "
        "always gets the same other one), or noise. A gain that a control gives as well is not "
        "what the text encoder knows.",
        panel=ALIGNMENT,
    )
    keep_masked_audio: float = setting(
        0.0,
        help="Weight of the loss of masked audio beside the alignment, in a pass of its own.",
        minimum=0,
        origin="assumed",
        panel=ALIGNMENT,
    )
    selection: Literal["best", "last"] = setting(
        "best",
        help="Which weights are handed on: those of the epoch with the least loss on what is held "
        "out, or the last. Alignment memorises small sets.",
        panel=ALIGNMENT,
    )
    epochs: float = like(PretrainSettings, "epochs", 100.0)
    held_out: float = like(PretrainSettings, "held_out", 0.05)

    def check(self) -> None:
        """Refuse a best epoch of nothing."""
        super().check()
        if self.selection == "best" and not self.held_out:
            raise SpeechkdError(
                "--selection best needs clips that are held out: raise --held-out, or write "
                "--selection last."
            )

    @property
    def is_control(self) -> bool:
        """Whether the text states are not the clips' own."""
        return self.control != "real"

    def choices(self) -> set[str]:
        """What is chosen, of all that a setting may depend on."""
        kind = {"seq"} if self.align == "seq" else {"tok", self.align}
        return kind | ({"masked audio"} if self.keep_masked_audio else set())
