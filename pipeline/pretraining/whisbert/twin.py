"""A run and its twin: the same command with other losses, and what each costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.pretraining.whisbert.costs import clip_flops, passes
from pipeline.pretraining.whisbert.losses import Loss
from pipeline.pretraining.whisbert.settings import WhisbertSettings

SETTINGS_OF_LOSSES = "losses"
INIT_AUDIO = "init_audio_sha256"
"""What a run's identity calls the digest of what its audio encoder began with."""
TEXT_PLACE = "init_text"
"""The setting that names what the text encoder begins with. Twins may have it from two places,
because digests tell what it is."""


def read_twin(folder: Path) -> dict[str, Any]:
    """The record of the run that is named with --twin.

    Raises:
        NotThere: there is no run.
        Damaged: its record cannot be read.
        SpeechkdError: it is a run of another command.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise NotThere(
            f"--twin {folder}: there is no run.json in it; name the folder of a run of `speechkd "
            "pretrain whisbert`."
        )
    try:
        record: dict[str, Any] = parse_json(read_text_file(path))
        identity = record["identity"]
        method, losses = identity.get("method"), identity.get(SETTINGS_OF_LOSSES)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Damaged(f"--twin {folder}: {path} is not the record of a run ({error!r}).") from error
    if method != "whisbert" or not isinstance(losses, str):
        raise SpeechkdError(f"--twin {folder} is no run of `speechkd pretrain whisbert`.")
    return record


def check_twin(settings: WhisbertSettings, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Check that two runs differ in their losses alone; what `run.json` says of the other one.

    Args:
        settings: of this run, which names the other.
        identity: all that this run's result depends on.

    Raises:
        SpeechkdError: there is no such run, or it differs in more.
    """
    if settings.twin is None:
        raise ValueError("no twin is named")
    other = read_twin(settings.twin)["identity"]
    free = settings.of_losses() | settings.operational() | {INIT_AUDIO, TEXT_PLACE}
    differing = [
        f"{name}: here {identity.get(name)!r}, there {other.get(name)!r}"
        for name in sorted({*identity, *other} - free)
        if identity.get(name) != other.get(name)
    ]
    if differing:
        raise SpeechkdError(
            f"--twin {settings.twin}: it differs from this run in more than its losses "
            f"({'; '.join(differing)}). Run both with the same settings and seed."
        )
    if other[SETTINGS_OF_LOSSES] == identity[SETTINGS_OF_LOSSES]:
        raise SpeechkdError(
            f"--twin {settings.twin}: both runs have --losses {other[SETTINGS_OF_LOSSES]}; a twin "
            "has others."
        )
    return {"run": str(settings.twin), "losses": other[SETTINGS_OF_LOSSES]}


def told_cost(
    flops: Mapping[str, float], losses: Mapping[Loss, float], epochs: float, steps_clips: int
) -> str:
    """What a step costs beside the twin's, in a sentence.

    Args:
        flops: of each pass over one clip, forward.
        losses: that are on.
        epochs: of the run.
        steps_clips: clips of a step.
    """
    own, twin = clip_flops(flops, losses), clip_flops(flops, {"mlm": 1.0})
    reads = passes(losses)["text"]
    words = (
        f"a step costs {3 * own * steps_clips / 1e12:.3g} TFLOP, {own / twin:.1f} times that of "
        f"masked-LM alone ({3 * twin * steps_clips / 1e12:.3g}); the text encoder reads each text "
        f"{'twice' if reads == 2 else 'once'} per step"
    )
    if own > twin * 1.005:
        words += f". For equal compute the twin would take --epochs {epochs * own / twin:.3g}"
    return words
