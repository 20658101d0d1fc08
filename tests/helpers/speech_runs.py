"""Runs of `speechkd pretrain` as fine-tuning finds them, without any training."""

import json
from pathlib import Path

import torch

from pipeline.corpus.frame_statistics import new_front
from pipeline.finetuning.audio_inputs import AudioClips
from pipeline.models.speech import SpeechShape, build_speech


def save_speech_run(
    folder: Path, clips: AudioClips, seed: int = 0, stack: int = 2, align: str = "", **comparable
) -> Path:
    """A run whose module has random weights and reads the frames of a cache."""
    front = new_front(
        clips.cache, clips.reader, normalise="speaker", shrink_frames=500.0, stack=stack,
        read="cls", folder=None,
    )  # fmt: skip
    torch.manual_seed(seed)
    module = build_speech(
        SpeechShape(
            channels=front.channels, most_rows=clips.cache.identity.most_rows, stack=stack,
            layers=1, width=16, heads=2,
        )
    )  # fmt: skip
    module.save(folder / "speech", front)
    settings = {"seed": seed, **({"align": align} if align else {})}
    record = {"settings": settings, "comparable": comparable, "result": {"step": 3}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder
