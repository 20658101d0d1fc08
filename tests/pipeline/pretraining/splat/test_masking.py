"""Masks against a loop per frame, their shares, and straight lines against numpy."""

import numpy as np
import pytest
import torch

from pipeline.corpus.draws import PLACES, random_bits
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.rows import Rows
from pipeline.models.lengths import Lengths
from pipeline.pretraining.splat.masking import FrameMasking, Hidden, chance, filled_in, last_seen

NAME = (3, "train", 1, 7)


def batch_of(counts, clips=None, channels=5):
    lengths_B = torch.tensor(counts)
    own_B = torch.arange(len(counts)) if clips is None else torch.tensor(clips)
    rows = Rows(
        **Lengths.parts(lengths_B, sum(counts)), values_NW=torch.zeros(sum(counts), channels)
    )
    return RowBatch(own_B, own_B, {"frames": rows}, {"frames": sum(counts)}, NAME)


@pytest.mark.parametrize("span", [1, 2, 4, 9])
def test_spans_are_those_of_a_loop_over_frames_and_end_with_their_clip(span):
    counts = [1, 2, 40, 3, 25]
    masking = FrameMasking(0.2, span, 0.0)
    batch = batch_of(counts, [8, 1, 30, 2, 5])
    hidden = masking.choose(batch, "frames", 5)
    wanted = []
    for clip, count in zip([8, 1, 30, 2, 5], counts, strict=True):
        bits = random_bits(clip * PLACES + torch.arange(count), *NAME, "span starts")
        starts = [(int(b) >> 11) % 2**53 / 2**53 < 0.2 for b in bits]
        wanted += [any(starts[max(0, i - span + 1) : i + 1]) for i in range(count)]
    assert hidden.frame_N.tolist() == wanted


def test_the_share_of_hidden_frames_is_that_of_overlapping_spans():
    frames = 200_000
    hidden = FrameMasking(0.15, 4, 0.15).choose(batch_of([1000] * 200), "frames", 80)
    share = float(hidden.frame_N.double().mean())
    expected = 1 - 0.85**4
    # neighbours share starts, so the deviation is that of a quarter of the frames at least
    assert abs(share - expected) < 3 * (expected * (1 - expected) / (frames / 4)) ** 0.5
    channels = float(hidden.channel_BC.double().mean())
    assert abs(channels - 0.15) < 3 * (0.15 * 0.85 / (200 * 80)) ** 0.5


def test_masks_follow_from_the_clip_and_the_step_alone():
    masking = FrameMasking(0.15, 4, 0.3)
    whole = masking.choose(batch_of([30, 50, 20], [4, 9, 6]), "frames", 80)
    alone = masking.choose(batch_of([50], [9]), "frames", 80)
    assert whole.frame_N[30:80].equal(alone.frame_N)
    assert whole.channel_BC[1].equal(alone.channel_BC[0])
    other = batch_of([50], [9])
    other = RowBatch(other.clip_B, other.own_B, other.parts, other.totals, (*NAME[:3], 8))
    assert not masking.choose(other, "frames", 80).frame_N.equal(alone.frame_N)


def test_a_band_is_one_run_of_channels_of_every_width_and_place():
    hidden = FrameMasking(0.0, 4, 0.15, band=16).choose(batch_of([2] * 3000), "frames", 80)
    assert not hidden.frame_N.any()
    widths = hidden.channel_BC.sum(1)
    assert set(widths.tolist()) == set(range(17))
    edges = hidden.channel_BC.int().diff(dim=1).abs().sum(1)
    assert int(edges.max()) <= 2
    assert hidden.channel_BC.any(0).all()


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 0.0), (1.0, 1.0)])
def test_nothing_and_everything_are_exact(share, wanted):
    bits = random_bits(torch.arange(1000), "x")
    assert float(chance(bits, share).double().mean()) == wanted


def by_hand(values, frame, channel):
    """Straight lines by numpy.interp: channels of each frame, then frames of each channel."""
    out = values.copy()
    seen = np.flatnonzero(~channel)
    for row in out:
        row[:] = np.interp(np.arange(len(row)), seen, row[seen]) if len(seen) else 0
    seen = np.flatnonzero(~frame)
    for column in out.T:
        column[:] = np.interp(np.arange(len(out)), seen, column[seen]) if len(seen) else 0
    return out


def test_straight_lines_are_those_of_numpy_clip_by_clip():
    rng = np.random.default_rng(0)
    counts = [1, 6, 30, 4, 12]
    values = rng.standard_normal((sum(counts), 9))
    frame = rng.random(sum(counts)) < 0.5
    channel = rng.random((len(counts), 9)) < 0.4
    frame[7:37][:3], frame[7:37][-4:] = True, True  # gaps at both ends of a clip
    frame[37:41] = True  # nothing of a clip is visible
    channel[4] = True
    rows = Lengths.of(torch.tensor(counts))
    hidden = Hidden(torch.from_numpy(frame), torch.from_numpy(channel))
    shown = torch.from_numpy(values).masked_fill(hidden.cells(rows), 0)
    given = filled_in(shown, hidden, rows).numpy()
    repeated = last_seen(shown, hidden, rows).numpy()
    start = 0
    for place, count in enumerate(counts):
        piece = slice(start, start + count)
        np.testing.assert_allclose(
            given[piece],
            by_hand(shown.numpy()[piece], frame[piece], channel[place]),
            rtol=1e-6,  # weights are float32
            atol=1e-6,
        )
        last = np.zeros(9)
        for at in range(start, start + count):
            last = last if frame[at] else shown.numpy()[at]
            np.testing.assert_array_equal(repeated[at], last)
        start += count
