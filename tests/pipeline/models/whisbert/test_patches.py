"""Frames laid out for the stem: each in its place, silence behind, nothing between clips."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.whisbert.patches import lay_out, patches_of


@given(
    st.lists(st.integers(1, 47), min_size=1, max_size=6),
    st.sampled_from([1, 5, 10, 16]),
    st.integers(0, 2**31),
)
def test_every_frame_stands_in_its_patch(lengths, per_patch, seed):
    values = torch.rand(sum(lengths), 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    out = lay_out(values, torch.tensor(lengths), per_patch)
    assert out.patches.lengths_B.tolist() == [-(-n // per_patch) for n in lengths]
    row = out.frames_LW.unflatten(0, (-1, per_patch))
    between = {1: 8, 5: 2}.get(per_patch, 1)
    assert len(row) == len(out.place_P) + between * (len(lengths) + 1)
    outside = torch.ones(len(row), dtype=torch.bool)
    outside[out.place_P] = False
    assert (row[outside] == 0).all()
    assert torch.equal(out.inside_L.view(-1, per_patch).all(1), ~outside)
    assert torch.equal(out.inside_L.view(-1, per_patch).any(1), ~outside)
    for clip, own in enumerate(values.split(lengths)):
        got = row[out.place_P[out.patches.sequence_N == clip]].flatten(0, 1)
        assert torch.equal(got[: len(own)], own)
        assert (got[len(own) :] == own.min()).all()


def test_a_patch_of_nothing_stands_on_both_sides_of_each_clip():
    out = lay_out(torch.ones(25, 2), torch.tensor([12, 13]), 10)
    assert out.place_P.tolist() == [1, 2, 4, 5]
    assert len(out.frames_LW) == 70


@pytest.mark.parametrize(("frames", "patches"), [(1, 1), (10, 1), (11, 2), (1500, 150)])
def test_a_clip_has_a_patch_for_every_ten_frames_begun(frames, patches):
    assert patches_of(torch.tensor([frames]), 10).tolist() == [patches]
