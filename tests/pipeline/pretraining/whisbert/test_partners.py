"""Unmatched pairs: nobody's own text, like lengths, and a pure function of the batch's name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pretraining.whisbert.partners import partners

NAME = (0, "train", 0, 0)


def made(count, seed=0, texts=None, recordings=None):
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(5, 150, (count,), generator=generator)
    tokens = (patches * 0.35 + 6 * torch.randn(count, generator=generator)).round().clamp(3)
    text = torch.arange(count) if texts is None else texts
    recording = torch.full((count,), -1) if recordings is None else recordings
    return patches, tokens.long(), torch.arange(count) + 100, text, recording


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6), st.integers(0, 9))
def test_no_pair_matches_and_each_is_joined_once(count, texts, recordings, seed):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(texts, (count,), generator=generator)
    recording = torch.randint(-1, recordings, (count,), generator=generator)
    patches, tokens, clips, *_ = made(count, seed)
    audio, other = partners(patches, tokens, clips, text, recording, NAME)
    assert (text[audio] != text[other]).all()
    assert len(set(audio.tolist())) == len(audio)
    assert len(set(other.tolist())) == len(other)
    most = int(torch.bincount(text).max())
    if most <= count / 2 and count > 1:  # then every audio has some text that is not its own
        assert len(audio) >= count - 2


def test_lengths_of_unmatched_pairs_are_alike():
    """The mean gap to the text that a duration asks for is near that of matched pairs."""
    patches, tokens, *rest = made(256)
    audio, other = partners(patches, tokens, *rest, NAME)
    assert len(audio) == 256
    gaps = (tokens[audio] - tokens[other]).abs().double().mean()
    apart = (patches[audio] - patches[other]).abs().double().mean()
    drawn = (tokens - tokens.roll(1)).abs().double().mean()
    assert gaps < 0.35 * drawn
    assert apart < 0.35 * (patches - patches.roll(1)).abs().double().mean()


def test_recordings_are_kept_apart_where_that_is_possible():
    recordings = torch.arange(60) // 20
    patches, tokens, clips, text, _ = made(60)
    audio, other = partners(patches, tokens, clips, text, recordings, NAME)
    assert (recordings[audio] != recordings[other]).all()
    one = torch.zeros(60).long()
    audio, other = partners(patches, tokens, clips, text, one, NAME)
    assert len(audio) == 60  # of one recording alone they are joined all the same


def test_the_name_decides_and_nothing_else():
    arguments = made(64, texts=torch.arange(64))
    same = [partners(*arguments, NAME)[1].tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert partners(*arguments, (0, "train", 0, 1))[1].tolist() != same[0]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_texts_alike_leave_nothing_to_join(count):
    patches, tokens, clips, _, recording = made(count)
    audio, other = partners(patches, tokens, clips, torch.zeros(count).long(), recording, NAME)
    assert len(audio) == len(other) == 0


def test_a_batch_of_two_exchanges_its_texts():
    audio, other = partners(*made(2), NAME)
    assert (audio.tolist(), other.tolist()) == ([0, 1], [1, 0])
