"""What a model reads of log-mels: stacking, cutting, scales; other front ends are refused."""

import json

import numpy as np
import pytest
import torch

from pipeline.cache.identity import sequence_identity
from pipeline.corpus.acoustic import normalise
from pipeline.corpus.frame_features import FrameFeatures, front_end
from pipeline.foundation.errors import Damaged, SpeechkdError

CHANNELS = 3
FRONT_END = {"kind": "ctal-mel", "width": CHANNELS, "hop_samples": 200, "sample_rate_hz": 16_000}


def features(**changes) -> FrameFeatures:
    fields = {"normalisation": "clip", "deltas": "clean", "stack": 1, "longest": 100}
    return FrameFeatures(FRONT_END, **{**fields, **changes})


def mels(*counts: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.randn(sum(counts), CHANNELS, generator=source), torch.tensor(counts)


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_stacked_frames_are_those_of_each_clip_side_by_side(stack):
    mel_FM, counts_B = mels(9, 1, 8)
    stacked_PC = features(stack=stack).stacked(mel_FM, counts_B).numpy()
    expected = []
    for part in np.split(mel_FM.numpy(), np.cumsum(counts_B)[:-1]):
        missing = -len(part) % stack
        expected.append(np.pad(part, ((0, missing), (0, 0))).reshape(-1, stack * CHANNELS))
    np.testing.assert_array_equal(stacked_PC, np.concatenate(expected))


def test_what_is_read_of_whole_clips_is_normalised_with_deltas():
    mel_FM, counts_B = mels(30, 12)
    values_PC, audio = features(stack=2).packed(mel_FM, counts_B)
    normal = normalise(mel_FM, counts_B)
    expected_FC = normal.with_deltas(normal.mel_FM)
    torch.testing.assert_close(values_PC.reshape(-1, 2 * CHANNELS), expected_FC)
    assert audio.lengths_B.tolist() == [15, 6]
    assert values_PC.shape[1] == features(stack=2).columns
    without_PC, _ = features(deltas="none").packed(mel_FM, counts_B)
    torch.testing.assert_close(without_PC, normal.mel_FM)


def test_longer_clips_are_cut_before_they_are_normalised():
    mel_FM, counts_B = mels(30, 12, 50)
    values_PC, audio = features(longest=20).packed(mel_FM, counts_B)
    kept = torch.cat([mel_FM[:20], mel_FM[30:62]])
    expected_PC, _ = features().packed(kept, torch.tensor([20, 12, 20]))
    torch.testing.assert_close(values_PC, expected_PC)
    assert audio.lengths_B.tolist() == [20, 12, 20]


@pytest.mark.parametrize("count", [1, 8, 9])
def test_the_shortest_clips_are_read(count):
    values_PC, _ = features(stack=4).packed(*mels(count))
    assert bool(values_PC.isfinite().all())
    assert len(values_PC) == -(-count // 4)


def test_scales_of_a_corpus_are_its_own():
    mel_FM, counts_B = mels(400, 300)
    mel_FM = 3 * mel_FM - 5
    mean_M, std_M = mel_FM.double().mean(0), mel_FM.double().std(0, correction=0)
    scaled = features(normalisation="corpus").with_scales(mel_FM, counts_B, mean_M, std_M)
    read_FC = scaled.read(scaled.normal(mel_FM, counts_B)).double()
    torch.testing.assert_close(read_FC.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        read_FC.std(0, correction=0), torch.ones(6).double(), rtol=1e-5, atol=0
    )


def test_what_is_written_is_what_is_read():
    mel_FM, counts_B = mels(20)
    for own in (
        features(stack=3, deltas="paper"),
        features(normalisation="corpus").with_scales(
            mel_FM, counts_B, torch.zeros(CHANNELS), torch.ones(CHANNELS)
        ),
    ):
        again = FrameFeatures.of_record(json.loads(json.dumps(own.record())), "features.json")
        assert again == own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stack", 0),
        ("longest", "100"),
        ("deltas", "all"),
        ("normalisation", "corpus"),
        ("mean", [1.0]),
        ("front_end", {}),
    ],
)
def test_a_forged_record_is_refused(name, value):
    record = {**features().record(), name: value}
    with pytest.raises(Damaged, match=r"features\.json does not say how frames are read"):
        FrameFeatures.of_record(record, "features.json")


def test_a_cache_of_another_front_end_is_refused_with_both_values():
    def identity(**changes):
        fields = {"width": CHANNELS, "most_rows": 10, "hop_samples": 200, "settings": {}}
        return sequence_identity("ctal-mel", **{**fields, "dtype": "float16", **changes})

    own = features()
    assert front_end(identity()) == FRONT_END
    own.check(identity(), "mels")
    with pytest.raises(SpeechkdError, match="hop_samples: 200 there, 160 here"):
        own.check(identity(hop_samples=160), "mels")
    with pytest.raises(SpeechkdError, match="n_fft: None there, 400 here"):
        own.check(identity(settings={"n_fft": 400}), "mels")
