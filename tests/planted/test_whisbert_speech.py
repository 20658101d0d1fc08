"""Spoken words reach WhisBERT's patches as they were said: wav → tar → log-mel → stem.

The experiment itself takes minutes and is in bench/planted_whisbert_speech.py.
"""

import math

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor

pytest.importorskip("espeakng_loader", reason="the voice comes with this package")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    from bench.planted_whisbert_speech import make_cache

    folder = tmp_path_factory.mktemp("spoken")
    return folder, make_cache(folder, 8)


def frames_of(wave):
    """Whisper's log-mel by Hugging Face, of the frames whose middle is in the wave."""
    extractor = WhisperFeatureExtractor()
    mel = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features[0]
    return mel.T[: math.ceil(len(wave) / 160)]


def test_what_is_said_reaches_the_patches(spoken, tmp_path):
    from bench.planted_whisbert_speech import WORDS
    from pipeline.models.whisbert.patches import lay_out
    from tests.helpers.whisbert import parts_of

    folder, cache = spoken
    method, parts = parts_of(cache, tmp_path / "run", batch=4, losses=["mlm", "mmm"])
    parts.ahead.close()
    batch = parts.batches.epoch(0)(0)
    made = method.maker(parts.data)(batch)
    with torch.no_grad():
        got = parts.module.speech.patches(made.audio.frames)
    waves = {}
    for clip in batch.own_B.tolist():
        key = parts.data.corpus.keys[clip]
        waves[clip], rate = soundfile.read(folder / "wav" / f"{key}.wav", dtype="float32")
        assert rate == 16_000
        assert set(parts.data.corpus.texts[clip].split()) <= set(WORDS)
    frames = [frames_of(waves[clip]) for clip in batch.own_B.tolist()]
    lengths = torch.tensor([len(one) for one in frames])
    with torch.no_grad():
        wanted = parts.module.speech.patches(lay_out(torch.cat(frames), lengths, 10))
    assert np.ptp(lengths.numpy()) > 0
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.02)
    assert wanted.std() > 0.2
