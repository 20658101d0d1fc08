"""States of the teacher as rows: Hugging Face's states, and their means by hand."""

import numpy as np
import pytest
import torch
import transformers

from pipeline.extraction.batches import WaveBatch
from pipeline.extraction.teacher import load_teacher
from pipeline.extraction.whisper_rows import States, strided_means
from tests.helpers.whispers import batch_of, save_random_whisper, speechlike

SAMPLES = [32_000, 8_000, 8_001, 1]
POSITIONS = [100, 25, 26, 1]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "whisper"
    return save_random_whisper(folder, layers=2, heads=1), str(folder)


@pytest.mark.parametrize("stride", [1, 3, 750])
def test_rows_are_hugging_faces_states_where_there_is_audio(whisper, stride):
    model, folder = whisper
    waves = [speechlike(samples, seed) for seed, samples in enumerate(SAMPLES)]
    rows = States(load_teacher(folder), stride).rows_of(
        WaveBatch(0, [0, 1, 2, 3], *batch_of(waves))
    )
    extractor, first = transformers.WhisperFeatureExtractor(), 0
    assert list(rows.counts) == [-(-n // stride) for n in POSITIONS]
    for wave_S, positions, count in zip(waves, POSITIONS, rows.counts, strict=True):
        mel = extractor(wave_S, sampling_rate=16_000, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            states_TE = model.encoder(mel).last_hidden_state[0, :positions].numpy()
        wanted = [states_TE[i : i + stride].mean(axis=0) for i in range(0, positions, stride)]
        np.testing.assert_allclose(rows.rows_NE[first : first + count], wanted, atol=2e-4)
        first += count
    assert first == len(rows.rows_NE)


def test_means_never_reach_beyond_a_clips_own_states():
    states_BTE = torch.randn(2, 7, 3)
    changed_BTE = states_BTE.clone()
    changed_BTE[0, 4:] += 100 * torch.randn(3, 3)
    one, other = (strided_means(s, [4, 7], 3)[0, :2] for s in (states_BTE, changed_BTE))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(one[1], states_BTE[0, 3])
