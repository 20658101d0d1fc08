"""Hidden patches and their negatives: where spans stand, what is drawn, and by what name."""

from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.lengths import Lengths
from pipeline.pretraining.whisbert.hiding import hidden_patches, hide

NAME = (0, "train", 0, 0)
lengths = st.lists(st.integers(1, 160), min_size=1, max_size=6)


def split(masked_P, counts):
    return [part.tolist() for part in masked_P.split(counts)]


@given(lengths, st.sampled_from([0.1, 0.4, 0.9]), st.integers(1, 9), st.integers(0, 99))
def test_spans_have_their_length_and_do_not_touch(counts, share, span, seed):
    patches = Lengths.of(torch.tensor(counts))
    clips = torch.arange(len(counts)) + 7
    masked_P = hidden_patches(patches, clips, share, span, (seed, "train", 0, 0))
    for count, one in zip(counts, split(masked_P, counts), strict=True):
        wanted = round(share * count / span)
        runs = [len(list(run)) for hidden, run in groupby(one) if hidden]
        if span == 1:
            assert sum(one) == min(wanted, count)
        else:
            most = (count + 1) // (span + 1)
            assert runs == [span] * min(wanted, most)


def test_the_share_is_the_specifications():
    """11 spans of 5 among 141 patches: 0.39."""
    masked = hidden_patches(Lengths.of(torch.tensor([141])), torch.zeros(1).long(), 0.4, 5, NAME)
    assert int(masked.sum()) == 55


def test_every_way_to_place_spans_is_as_likely():
    """Two spans of 2 in 7 patches: 6 ways, by brute force 1/6 each."""
    drawn: dict[tuple, int] = {}
    for step in range(3000):
        patches = Lengths.of(torch.tensor([7]))
        masked = hidden_patches(patches, torch.tensor([3]), 4 / 7, 2, (0, "train", 0, step))
        drawn[tuple(masked.tolist())] = drawn.get(tuple(masked.tolist()), 0) + 1
    ways = {
        tuple(i in (a, a + 1, b, b + 1) for i in range(7))
        for a in range(6)
        for b in range(a + 3, 6)
    }
    assert set(drawn) == ways
    assert all(abs(count / 3000 - 1 / len(ways)) < 0.03 for count in drawn.values())


def test_draws_follow_the_clip_and_the_name_and_nothing_else():
    counts = [30, 50, 41]
    patches, clips = Lengths.of(torch.tensor(counts)), torch.tensor([5, 9, 2])
    together = split(hidden_patches(patches, clips, 0.4, 5, NAME), counts)
    for count, clip, one in zip(counts, clips, together, strict=True):
        alone = hidden_patches(Lengths.of(torch.tensor([count])), clip[None], 0.4, 5, NAME)
        assert alone.tolist() == one
    for other in [
        (1, "train", 0, 0),
        (0, "held out", 0, 0),
        (0, "train", 1, 0),
        (0, "train", 0, 1),
    ]:
        assert split(hidden_patches(patches, clips, 0.4, 5, other), counts) != together


def hidden(counts, among="masked", span=5, share=0.4, negatives=20, clips=None, name=NAME):
    patches = Lengths.of(torch.tensor(counts))
    clips = torch.arange(len(counts)) if clips is None else clips
    return patches, hide(
        patches, clips, name, share=share, span=span, negatives=negatives, among=among
    )


@pytest.mark.parametrize("among", ["masked", "all"])
def test_negatives_are_other_patches_of_the_clip(among):
    patches, out = hidden([141, 3, 60, 90], among)
    clip_K = patches.sequence_N[out.place_K]
    assert sorted(clip_K.unique().tolist()) == [0, 2, 3]  # the short clip hides nothing
    assert torch.equal(out.masked_P.nonzero()[:, 0], out.place_K)
    for k in range(len(out.place_K)):
        mine = patches.sequence_N == clip_K[k]
        pool = (mine & out.masked_P if among == "masked" else mine).nonzero()[:, 0]
        assert torch.equal(
            out.candidate_C[out.candidates.sequence_N == out.rows.sequence_N[k]], pool
        )
        assert pool[out.own_K[k]] == out.place_K[k]
        assert (out.other_KJ[k] != out.own_K[k]).all()
        assert (out.other_KJ[k] >= 0).all()
        assert (out.other_KJ[k] < len(pool)).all()
    assert out.other_KJ.shape == (len(out.place_K), 20)


def test_negatives_are_uniform_over_the_others():
    counts = torch.zeros(10)
    for step in range(60):
        _, out = hidden([25], share=0.4, negatives=50, name=(0, "train", 0, step))
        first = out.own_K == 3
        counts += torch.bincount(out.other_KJ[first].flatten(), minlength=10)
    assert counts[3] == 0
    others = counts[torch.arange(10) != 3]
    assert (others / others.sum() - 1 / 9).abs().max() < 0.02


def test_one_hidden_patch_gives_no_term():
    patches, out = hidden([4], span=1, share=0.25)
    assert int(out.masked_P.sum()) == 1
    assert out.rows is None
    assert len(out.place_K) == 0
    assert out.other_KJ.shape == (0, 20)
    assert len(patches.sequence_N) == 4


def test_distances_lead_to_the_nearest_visible_patch_of_the_clip():
    """Against brute force, over clips that begin and end with hidden patches."""
    patches, out = hidden([40, 7, 33, 90], share=0.6, span=4)
    for place, distance in zip(out.place_K.tolist(), out.distance_K.tolist(), strict=True):
        mine = patches.sequence_N == patches.sequence_N[place]
        visible = (mine & ~out.masked_P).nonzero()[:, 0]
        assert distance == min(3, int((visible - place).abs().min()))


def test_clips_shorter_than_a_span_hide_nothing():
    _, out = hidden([1, 2, 5])
    assert not out.masked_P.any()
