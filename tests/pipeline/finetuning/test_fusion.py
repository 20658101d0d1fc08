"""CTAL's fusion, example by example, against the paper's formulas."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.finetuning.fusion import Fusion
from pipeline.models.lengths import Lengths

WIDTH = 5
TOKENS, FRAMES = [4, 1, 7], [9, 30, 2]


def states(counts, seed):
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randn(sum(counts), WIDTH, generator=source)
    return drawn.requires_grad_(), Lengths.of(torch.tensor(counts))


def fusion(**changes) -> Fusion:
    made = Fusion(WIDTH, **changes)
    made.begin(torch.Generator().manual_seed(0))
    for parameter in made.parameters():
        parameter.data *= 20  # so that pooling is not nearly a mean
    return made


def by_hand(made: Fusion, head: str):
    """First token, attention-pooled audio and both maxima of each example, in float64."""
    text_TD, audio_PD = (
        states(TOKENS, 0)[0].detach().double(),
        states(FRAMES, 1)[0].detach().double(),
    )
    own = {name: value.detach().double() for name, value in made.named_parameters()}
    token = frame = 0
    found = []
    for tokens, frames in zip(TOKENS, FRAMES, strict=True):
        h_w, h_a = text_TD[token : token + tokens], audio_PD[frame : frame + frames]
        token, frame = token + tokens, frame + frames
        later = h_w
        if head == "repository":
            h_w = torch.tanh(h_w @ own["of_text.weight"].T + own["of_text.bias"])
            h_a = torch.tanh(h_a @ own["of_audio.weight"].T + own["of_audio.bias"])
            later = h_w[1:] if tokens > 1 else h_w
        else:
            later = h_w
        score = torch.tanh(h_a @ own["attention.weight"].T) @ own["scores.weight"][0]
        share = score.softmax(0)
        found.append((h_w[0], later.max(0).values, share @ h_a, h_a.max(0).values))
    return [torch.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("head", ["paper", "repository"])
@pytest.mark.parametrize("joining", ["sum", "concat"])
def test_both_streams_are_joined_as_the_paper_says(head, joining):
    made = fusion(head=head, joining=joining)
    first, text_max, mixed, audio_max = by_hand(made, head)
    vectors_BD, orthogonality = made(*states(TOKENS, 0), *states(FRAMES, 1))
    expected = (
        torch.cat([mixed + first, audio_max + text_max], 1)
        if joining == "sum"
        else torch.cat([first, mixed], 1)
    )
    if head == "repository":
        weight, bias = made.of_both.weight.double(), made.of_both.bias.double()
        expected = torch.tanh(expected @ weight.T + bias)
    torch.testing.assert_close(vectors_BD.double(), expected, rtol=0, atol=1e-5)
    cosines = functional.cosine_similarity(mixed, first).abs()
    cosines = cosines + functional.cosine_similarity(audio_max, text_max).abs()
    assert float(orthogonality) == pytest.approx(float(cosines.mean()), abs=1e-5)


@pytest.mark.parametrize("streams", ["text", "audio"])
def test_one_stream_alone_needs_nothing_of_the_other(streams):
    made = fusion(streams=streams)
    both = fusion()
    first, text_max, mixed, audio_max = by_hand(both if streams == "text" else made, "paper")
    if streams == "text":
        vectors_BD, orthogonality = made(*states(TOKENS, 0), None, None)
        expected = torch.cat([first, text_max], 1)
        assert not list(made.parameters())
    else:
        vectors_BD, orthogonality = made(None, None, *states(FRAMES, 1))
        expected = torch.cat([mixed, audio_max], 1)
    torch.testing.assert_close(vectors_BD.double(), expected, rtol=0, atol=1e-5)
    assert float(orthogonality) == 0


def test_the_orthogonality_does_not_depend_on_lengths_of_vectors():
    """As released it falls with the text's length, as printed it grows with it."""
    made = fusion()
    text_TD, text = states(TOKENS, 0)
    _, one = made(text_TD, text, *states(FRAMES, 1))
    _, other = made(text_TD / 10, text, *states(FRAMES, 1))
    assert float(one) == pytest.approx(float(other), rel=1e-5)


def test_what_is_beside_an_example_does_not_matter():
    made = fusion()
    text_TD, text = states(TOKENS, 0)
    audio_PD, audio = states(FRAMES, 1)
    whole_BD, _ = made(text_TD, text, audio_PD, audio)
    alone_BD, _ = made(
        text_TD[4:5], Lengths.of(torch.tensor([1])), audio_PD[9:39], Lengths.of(torch.tensor([30]))
    )
    torch.testing.assert_close(alone_BD[0], whole_BD[1], rtol=0, atol=1e-6)
    padded = torch.autograd.grad(whole_BD[1].sum(), audio_PD)[0]
    assert not padded[:9].any()
    assert not padded[39:].any()
    assert bool(padded.isfinite().all())


def test_weights_are_those_of_the_generator():
    one, other = Fusion(WIDTH), Fusion(WIDTH)
    one.begin(torch.Generator().manual_seed(3))
    other.begin(torch.Generator().manual_seed(3))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert 0 < float(mine.abs().max()) < 0.1
    assert np.isfinite(float(one.attention.weight.std()))
