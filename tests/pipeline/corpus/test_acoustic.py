"""Normalised log-mels and deltas against numpy and librosa; and that deltas tell nothing hidden."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.acoustic import clip_scale, corpus_scale, deltas, normalise

CHANNELS = 5


def clips(counts: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    parts = [
        rng.normal(rng.normal(-6, 2, CHANNELS), rng.uniform(0.5, 3, CHANNELS), (n, CHANNELS))
        for n in counts
    ]
    mel_FM = torch.from_numpy(np.concatenate(parts)).float()
    return mel_FM, torch.tensor(counts), np.split(mel_FM.numpy(), np.cumsum(counts)[:-1])


def reference(part_FM: np.ndarray) -> np.ndarray:
    """The 160 channels of the released code: log-mel with deltas, each channel to mean 0, sd 1."""
    both = np.concatenate([part_FM.T, librosa.feature.delta(part_FM.T.astype(np.float64))])
    return ((both - both.mean(1, keepdims=True)) / both.std(1, keepdims=True)).T


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(9, 60), min_size=1, max_size=5), st.integers(0, 1000))
def test_deltas_are_librosas_clip_by_clip(counts, seed):
    mel_FM, counts_B, parts = clips(counts, seed)
    expected = [librosa.feature.delta(part.T.astype(np.float64)).T for part in parts]
    got = (deltas(mel_FM, counts_B), deltas(mel_FM.double(), counts_B))
    np.testing.assert_allclose(got[0].numpy(), np.concatenate(expected), atol=1e-5)
    np.testing.assert_allclose(got[1].numpy(), np.concatenate(expected), atol=1e-6)


def test_a_clip_that_is_too_short_has_no_deltas_and_disturbs_no_other():
    mel_FM, counts_B, parts = clips([8, 1, 9, 3])
    delta_FM = deltas(mel_FM, counts_B).numpy()
    assert not delta_FM[:9].any()
    assert not delta_FM[18:].any()
    np.testing.assert_allclose(delta_FM[9:18], librosa.feature.delta(parts[2].T).T, atol=1e-5)
    assert deltas(mel_FM[:0], counts_B[:0]).shape == (0, CHANNELS)


def test_features_are_those_of_the_released_code():
    mel_FM, counts_B, parts = clips([40, 12, 200])
    normal = normalise(mel_FM, counts_B)
    got_FW = normal.with_deltas(normal.mel_FM).numpy()
    np.testing.assert_allclose(got_FW, np.concatenate([*map(reference, parts)]), atol=2e-4)


def test_a_clip_does_not_depend_on_the_clips_beside_it():
    mel_FM, counts_B, parts = clips([30, 12])
    both = normalise(mel_FM, counts_B)
    alone = normalise(torch.from_numpy(parts[1]), torch.tensor([12]))
    torch.testing.assert_close(
        both.with_deltas(both.mel_FM)[30:], alone.with_deltas(alone.mel_FM), rtol=0, atol=1e-6
    )


def test_digital_silence_stays_near_zero():
    mel_FM = torch.full((50, CHANNELS), float(np.log(1e-6)))
    mel_FM += 1e-6 * torch.randn(mel_FM.shape, generator=torch.Generator().manual_seed(0))
    normal = normalise(mel_FM, torch.tensor([50]))
    assert float(normal.with_deltas(normal.mel_FM).abs().max()) < 0.01


def test_by_the_corpus_and_not_at_all():
    mel_FM, counts_B, _ = clips([40, 20])
    mean_M, std_M = mel_FM.double().mean(0), mel_FM.double().std(0, correction=0)
    scale = corpus_scale(mean_M, std_M)
    by_corpus = scale.normalised(mel_FM, counts_B).float()
    delta_scale = clip_scale(deltas(by_corpus, counts_B), torch.tensor([60]))
    got = normalise(mel_FM, counts_B, "corpus", (scale, delta_scale))
    features_FW = got.with_deltas(got.mel_FM)
    torch.testing.assert_close(features_FW.mean(0), torch.zeros(2 * CHANNELS), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        features_FW.std(0, correction=0), torch.ones(2 * CHANNELS), atol=1e-5, rtol=0
    )
    raw = normalise(mel_FM.half(), counts_B, "none")
    assert torch.equal(raw.mel_FM, mel_FM.half().float())
    assert torch.equal(raw.with_deltas(raw.mel_FM)[:, CHANNELS:], deltas(raw.mel_FM, counts_B))
    with pytest.raises(ValueError, match="scales of the corpus"):
        normalise(mel_FM, counts_B, "corpus")


def test_deltas_after_masking_are_those_of_what_is_shown():
    """Clean deltas beside a masked span would tell what is in it."""
    mel_FM, counts_B, _ = clips([60])
    normal = normalise(mel_FM, counts_B)
    shown_FM = normal.mel_FM.clone()
    shown_FM[20:30] = 0
    clean_FW, masked_FW = normal.with_deltas(normal.mel_FM), normal.with_deltas(shown_FM)
    clean, shown = (librosa.feature.delta(x.T.numpy()).T for x in (normal.mel_FM, shown_FM))
    expected = (shown - clean.mean(0)) / clean.std(0)
    np.testing.assert_allclose(masked_FW[:, CHANNELS:].numpy(), expected, atol=1e-4)
    beside = [*range(16, 20), *range(30, 34)]
    assert (clean_FW[beside, CHANNELS:] != masked_FW[beside, CHANNELS:]).all()
