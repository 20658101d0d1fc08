"""What WhisBERT logs beside its losses: what joining gains, spread, gradients; and its warnings.

Shapes: P patches, K predicted ones, A audio states, N text states, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.pretraining.whisbert.batches import PairBatch
from pipeline.pretraining.whisbert.contrast import ClipContrast, Terms
from pipeline.pretraining.whisbert.hiding import FARTHEST
from pipeline.pretraining.whisbert.losses import LOSS_OF, Loss
from pipeline.training import processes
from pipeline.training.log import Words

COLLAPSED = 2.0
"""Directions in which patches spread below which they have collapsed: a line has 1."""

LESS_MEMORY = (
    "Lower --batch-size first; then --max-tokens, or take smaller encoders (--student, "
    "--audio-layers, --fusion-layers)."
)


@dataclass
class Seen:
    """What a forward pass computed, for the sum of losses and for measurements.

    Attributes:
        text_ND: text states of the masked texts.
        losses: the parts of the sum by name.
        patches_PD: the stem's patches.
        audio_AD: audio states with hidden patches.
        clean_AD: audio states with nothing hidden.
        clean_ND: text states with nothing masked.
        mam: the terms of the audio encoder's predictions.
        mmm_audio: those of the fused states'.
        mmc: the contrast of clips.
        text_right: share of masked tokens that fused states tell.
        match_right: share of pairs that are told right.
    """

    text_ND: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    patches_PD: Tensor | None = None
    audio_AD: Tensor | None = None
    clean_AD: Tensor | None = None
    clean_ND: Tensor | None = None
    mam: Terms | None = None
    mmm_audio: Terms | None = None
    mmc: ClipContrast | None = None
    text_right: Tensor | None = None
    match_right: Tensor | None = None


def measured(seen: Seen, batch: PairBatch, taught: set[Loss]) -> dict[str, Tensor]:
    """Values that take time, by name; the same names in every process.

    | name                        | what it is                                                     |
    |-----------------------------|----------------------------------------------------------------|
    | `gain/audio`                | MLM less MMM of text on the same tokens: what audio tells      |
    | `gain/text`                 | MAM less MMM of audio on the same patches: what text tells     |
    | `mam/distance_d`            | MAM of patches whose nearest visible one is d away (3: or more)|
    | `top1/mmc`, `chance/mmc`    | how often the own clip is nearest; the loss if all were alike  |
    | `accuracy/atm`, `/mmm_text` | share of pairs, and of masked tokens, told right               |
    | `spread/patches`            | participation ratio of the patches' covariance                 |
    | `cosine/patches`            | mean cosine of two patches                                     |
    | `gradient_text/…`, `_audio` | norm of each loss's gradient at the states of each side        |
    """
    losses = seen.losses
    values: dict[str, Tensor] = {}
    if "mmm_text" in losses:
        values["gain/audio"] = losses["mlm"] - losses["mmm_text"]
    if "mmm_audio" in losses and "mam" in losses:
        values["gain/text"] = losses["mam"] - losses["mmm_audio"]
    if seen.mam is not None and batch.audio is not None:
        for apart in range(1, FARTHEST + 1):
            at_K = batch.audio.hidden.distance_K == apart
            # a distance that no patch has is no number, and not a loss of 0
            there = processes.differentiable_sum((at_K & seen.mam.counts_K).sum().float())
            mean = seen.mam.mean(at_K).detach()
            values[f"mam/distance_{apart}"] = torch.where(there > 0, mean, torch.nan)
    if seen.mmc is not None:
        values["top1/mmc"], values["chance/mmc"] = seen.mmc.top1, seen.mmc.chance
    if seen.match_right is not None:
        values["accuracy/atm"] = seen.match_right
    if seen.text_right is not None:
        values["accuracy/mmm_text"] = seen.text_right
    if seen.patches_PD is not None:
        values |= _spread(seen.patches_PD)
    return values | (_gradients(seen, taught) if torch.is_grad_enabled() else {})


@torch.no_grad()
def _spread(patches_PD: Tensor) -> dict[str, Tensor]:
    """In how many directions patches differ, and how alike two of them are."""
    with torch.autocast(patches_PD.device.type, enabled=False):
        patches_PD = patches_PD.float()
        apart_PD = patches_PD - patches_PD.mean(0)
        covariance_DD = apart_PD.T @ apart_PD / len(apart_PD)
        squares = covariance_DD.square().sum()
        ratio = covariance_DD.trace().square() / squares.clamp(min=1e-30)
        mean_D = functional.normalize(patches_PD, dim=1).mean(0)
    return {"spread/patches": ratio, "cosine/patches": mean_D.square().sum()}


def _gradients(seen: Seen, taught: set[Loss]) -> dict[str, Tensor]:
    """Norms of the gradient of each loss at the states of text and of audio."""
    norms: dict[str, Tensor] = {}
    for name, loss in seen.losses.items():
        if LOSS_OF[name] not in taught:
            continue
        clean = name == "mmc"
        at = {
            "text": seen.clean_ND if clean else seen.text_ND,
            "audio": seen.clean_AD if clean else seen.audio_AD,
        }
        if name == "mlm":
            at.pop("audio")
        if name == "mam":
            at.pop("text")
        for side, states in at.items():
            if states is not None and states.requires_grad:
                with torch.autocast(states.device.type, enabled=False):
                    (gradient,) = torch.autograd.grad(loss, states, retain_graph=True)
                norms[f"gradient_{side}/{name}"] = gradient.float().norm()
    return norms


def note(values: Mapping[str, float], decimals: int) -> str:
    """The losses, those of fused states beside those of either side alone."""
    return ", ".join(
        f"{name.removeprefix('loss/')} {value:.{decimals}f}"
        for name, value in values.items()
        if name.startswith("loss/")
    )


def warnings(values: Mapping[str, float]) -> dict[str, str]:
    """Patches that have collapsed."""
    spread = values.get("spread/patches")
    if spread is None or spread >= COLLAPSED:
        return {}
    return {
        "collapsed": f"patches of audio differ in {spread:.1f} directions only (participation "
        "ratio of their covariance): they may have collapsed, so that mam says nothing"
    }


WORDS = Words(note, warnings)
