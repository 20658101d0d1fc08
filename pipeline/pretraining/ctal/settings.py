"""What `speechkd pretrain ctal` may be asked."""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import like, setting
from pipeline.pretraining.settings import PretrainSettings
from pipeline.training.settings import TRAINING
from pipeline.training.text_settings import TextSettings

MODEL, FRAMES, LOSSES = "Model", "Frames", "Losses"


@dataclass(frozen=True, kw_only=True)
class CtalSettings(PretrainSettings):
    """How `speechkd pretrain ctal` trains."""

    cache: str = setting(
        help="A cache of log-mels: a path or URL. `speechkd extract-features --features ctal-mel` "
        "makes that of the paper.",
        argument=True,
        operational=True,
    )

    layers: int = setting(
        3,
        help="Layers of each of the two stacks; the paper has 3 (base) and 6 (large).",
        minimum=1,
        maximum=48,
        origin="paper",
        panel=MODEL,
    )
    width: int = setting(
        768,
        help="Width of both stacks.",
        minimum=8,
        maximum=4096,
        origin="paper",
        panel=MODEL,
        idle_without="a fresh text stack",
    )
    heads: int = setting(
        12, help="Heads of attention.", minimum=1, maximum=64, origin="paper", panel=MODEL
    )
    text: str | None = setting(
        None,
        help="A masked-LM encoder to go on from as the text stack: a distill run, a Hugging Face "
        "folder or a hub id. The audio stack takes its width. The default is a fresh RoBERTa.",
        panel=MODEL,
    )
    vocab_size: int = setting(
        30_000,
        help="Largest number of pieces of a new byte-level BPE.",
        minimum=300,
        origin="paper",
        panel=MODEL,
        idle_without="a fresh text stack",
    )
    lowercase: bool = setting(
        True,
        help="Drop case in a new tokenizer, as the released one does.",
        origin="assumed",
        panel=MODEL,
        idle_without="a fresh text stack",
    )
    max_tokens: int = like(TextSettings, "max_tokens", maximum=510, panel=MODEL)
    dropout: float = setting(
        0.1,
        help="Dropout of the states of fresh stacks, as in the released code; attention drops "
        "nothing.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
        panel=MODEL,
    )
    cross: Literal["on", "off"] = setting(
        "on",
        help="Whether frames look at the text. Off trains both stacks side by side (Table 4 g).",
        panel=MODEL,
    )

    recipe: Literal["paper", "repository"] = setting(
        "paper",
        help="What is auto below: the paper's, or what the released code does. Its causal mask, "
        "which the paper does not have, is in neither.",
        panel=FRAMES,
    )
    normalisation: Literal["clip", "corpus", "none"] = setting(
        "clip",
        help="Mean and standard deviation of each channel: of the clip, as in the released code "
        "(it removes much of voice and room), of the cache, or none taken away.",
        origin="assumed",
        panel=FRAMES,
    )
    deltas: Literal["auto", "clean", "paper", "none"] = setting(
        "auto",
        help="Deltas that are read: computed after frames are hidden (clean, the default), before "
        "it (paper; those beside hidden frames then tell of them), or none.",
        origin="assumed",
        panel=FRAMES,
    )
    spans: Literal["auto", "partition", "scattered"] = setting(
        "auto",
        help="What is hidden: segments of which a clip is made (partition, the paper's), or spans "
        "anywhere that may overlap (scattered, the released code's).",
        panel=FRAMES,
    )
    fates: Literal["auto", "segment", "frame"] = setting(
        "auto",
        help="What has one fate of zeroed, replaced or left as it is: a segment (the paper's), or "
        "each frame (the released code's, which leaves a tenth of every span visible).",
        panel=FRAMES,
    )
    frame_share: float = setting(
        0.15,
        help="Share of frames to predict: of their segments 80 % are zeroed, 10 % replaced, 10 % "
        "left.",
        minimum=0.01,
        maximum=0.9,
        origin="paper",
        panel=FRAMES,
    )
    shortest_ms: float = setting(
        250.0,
        help="Shortest segment; each clip draws one length per epoch (20 frames in the paper).",
        unit="ms",
        minimum=1,
        origin="paper",
        panel=FRAMES,
    )
    longest_ms: float = setting(
        625.0,
        help="Longest segment (50 frames in the paper).",
        unit="ms",
        minimum=1,
        origin="paper",
        panel=FRAMES,
    )
    stack: int = setting(
        1,
        help="Frames that make one position of the audio stack; 4 makes a step about 4 times as "
        "fast.",
        minimum=1,
        maximum=16,
        origin="paper",
        panel=FRAMES,
    )
    max_frames: int = setting(
        3000,
        help="Frames of the longest clip; longer ones are cut and counted.",
        unit="frames",
        minimum=9,
        maximum=100_000,
        origin="assumed",
        panel=FRAMES,
    )

    mask_share: float = like(TextSettings, "mask_share", origin="paper", panel=LOSSES)
    mlm_weight: float = setting(
        1.0,
        help="Weight of the loss of masked tokens; 0 trains without it (Table 4 b).",
        minimum=0,
        origin="paper",
        panel=LOSSES,
    )
    mcam_weight: float = setting(
        1.0,
        help="Weight of the loss of masked frames; 0 trains without it, and so leaves the audio "
        "stack as it was drawn (Table 4 c).",
        minimum=0,
        origin="paper",
        panel=LOSSES,
    )
    control: Literal["real", "shuffled-text"] = setting(
        "real",
        help="Whether clips have their own text, or each another one's. A gain that the control "
        "gives as well does not come from texts that belong to the audio.",
        panel=LOSSES,
    )

    epochs: float = like(
        PretrainSettings,
        "epochs",
        57.0,
        help="Passes over the clips; 57 is the paper's million steps of 16 clips on LibriSpeech.",
    )
    batch: int = like(PretrainSettings, "batch", 16, origin="paper")
    learning_rate: float = like(PretrainSettings, "learning_rate", 5e-5, origin="paper")
    warmup_fraction: float = like(
        PretrainSettings,
        "warmup_fraction",
        0.07,
        help="Share of all steps in which the rate rises, as in the released code; after them it "
        "falls linearly to 0.",
        panel=TRAINING,
    )

    def check(self) -> None:
        """Refuse combinations that contradict each other."""
        super().check()
        if self.longest_ms < self.shortest_ms:
            raise SpeechkdError(
                f"--longest-ms {self.longest_ms:g} is less than --shortest-ms {self.shortest_ms:g}."
            )
        if not self.mlm_weight and not self.mcam_weight:
            raise SpeechkdError(
                "--mlm-weight 0 --mcam-weight 0 trains nothing: leave one of the two above 0."
            )
        if not self.mlm_weight and self.cross == "off":
            raise SpeechkdError(
                "--mlm-weight 0 --cross off trains no text: frames do not look at it. Leave one "
                "of the two as it is."
            )
        if not self.text and self.width % self.heads:
            raise SpeechkdError(
                f"--heads {self.heads} do not divide --width {self.width}; give a number of heads "
                "that does."
            )

    def chosen(self, name: str) -> Any:
        """The value of a setting that `auto` leaves to --recipe."""
        value = getattr(self, name)
        by_recipe = {
            "deltas": {"paper": "clean", "repository": "paper"},
            "spans": {"paper": "partition", "repository": "scattered"},
            "fates": {"paper": "segment", "repository": "frame"},
        }
        return by_recipe[name][self.recipe] if value == "auto" else value

    def choices(self) -> set[str]:
        """What is chosen, in the words of `idle_without`."""
        return set() if self.text else {"a fresh text stack"}
