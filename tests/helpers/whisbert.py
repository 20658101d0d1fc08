"""WhisBERT runs of a made-up cache, small enough for tests, and the model by hand, clip by clip.

Shapes: P patches, K predicted patches, D width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from pipeline.models.lengths import Lengths
from pipeline.models.whisbert.layers import positions
from pipeline.pretraining.method import Parts
from pipeline.pretraining.running import assemble
from pipeline.pretraining.whisbert.method import Whisbert
from pipeline.pretraining.whisbert.settings import WhisbertSettings
from tests.helpers.caches import make_sequence_cache, manifest

SMALL = {
    "student": "bert-tiny",
    "width": 16,
    "heads": 2,
    "audio_layers": 1,
    "fusion_layers": 1,
    "vocab_size": 200,
    "max_tokens": 32,
    "batch": 8,
    "epochs": 2.0,
    "held_out": 0.2,
    "log_every": 1,
    "measure_every": 1,
    "checkpoint_minutes": 0.0,
    "learning_rate": 1e-3,
}
ALL = ["mlm", "mam", "mmc", "mmm", "atm"]


def mel_cache(location: Path, clips: int = 40, width: int = 6, most_rows: int = 300, **changes):
    """A cache of frames: of Whisper's kind, but narrow, 10 ms apart."""
    made = {"kind": "whisper-mel", "hop_samples": 160, "rows_per_object": 1024, **changes}
    return make_sequence_cache(location, [clips], width=width, most_rows=most_rows, **made)


def mel_cache_of(
    location: Path, clips: Sequence[tuple[str, str | None, NDArray[np.float32]]], **changes
) -> TeacherCache:
    """A cache of given clips: text, recording (None if unknown) and frames of each."""
    width = clips[0][2].shape[1]
    made_of = {"hop_samples": 160, "rows_per_object": 4096, "settings": {}, **changes}
    longest = max(len(frames) for _, _, frames in clips)
    cache = TeacherCache.create_or_open(
        location,
        manifest([len(clips)]),
        sequence_identity("whisper-mel", width=width, most_rows=longest, **made_of),
        {},
    )
    writer, samples = ShardWriter(cache, 0), []
    for position, (text, recording, frames) in enumerate(clips):
        writer.append([position], frames, [len(frames)], records=[{}])
        samples.append(
            {"position": position, "key": f"clip-{position}", "text": text,
             "duration_s": len(frames) / 100, "speaker": None, "recording": recording}
        )  # fmt: skip
    assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    return cache


def settings_of(location: Path, out: Path, **changes) -> WhisbertSettings:
    """Settings of a small run."""
    return WhisbertSettings(cache=str(location), out=out, **{**SMALL, **changes})


def parts_of(location: Path, out: Path, **changes) -> tuple[Whisbert, Parts]:
    """A method and the parts of its run, on a CPU."""
    method = Whisbert(settings_of(location, out, **changes))
    return method, assemble(method, method.caches(), torch.device("cpu"))


def contrast_by_hand(
    predicted_D: Tensor, own_D: Tensor, others_JD: Tensor, kappa: float
) -> Tensor | None:
    """Equation 2 of the paper for one patch; None if all others equal its own."""
    others = [other for other in others_JD if not torch.equal(other, own_D)]
    if not others:
        return None
    cosines = torch.stack(
        [functional.cosine_similarity(predicted_D, x, dim=0) for x in [own_D, *others]]
    )
    return -(cosines / kappa).log_softmax(0)[0]


def layers_by_hand(layers, inputs_ND: Tensor) -> Tensor:
    """Transformers' layers over one sequence, by eager attention."""
    for layer in layers.layers:
        before = layer.self_attn.config._attn_implementation
        layer.self_attn.config._attn_implementation = "eager"
        inputs_ND = layer(inputs_ND[None], None)[0]
        layer.self_attn.config._attn_implementation = before
    return layers.norm(inputs_ND)


def audio_by_hand(speech, patches_PD: Tensor) -> Tensor:
    """States of one clip's patches, CLS first."""
    place = positions(Lengths.of(torch.tensor([len(patches_PD)])), speech.width)
    return layers_by_hand(speech.layers, torch.cat([speech.cls_D[None], patches_PD + place]))


def fused_by_hand(fusion, audio_AD: Tensor, text_ND: Tensor) -> Tensor:
    """States of one pair: CLS, audio, text."""
    inputs = [fusion.cls_D[None]]
    for states, project, side in (
        (audio_AD, fusion.from_audio, fusion.audio_D),
        (text_ND, fusion.from_text, fusion.text_D),
    ):
        place = positions(Lengths.of(torch.tensor([len(states)])), fusion.width)
        inputs.append(project(states) + place + side)
    return layers_by_hand(fusion.layers, torch.cat(inputs))
