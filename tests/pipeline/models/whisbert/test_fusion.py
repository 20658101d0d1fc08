"""The fusion encoder: where states stand, and what they are, against layers over each pair alone.

Shapes: A audio states, N text states, D width.
"""

import pytest
import torch

from pipeline.models.lengths import Lengths
from pipeline.models.whisbert.fusion import Fusion, Pairing
from pipeline.models.whisbert.layers import LayerSizes, positions
from tests.pipeline.models.whisbert.test_speech_encoder import eager

D = 16
AUDIO, TEXT = Lengths.of(torch.tensor([4, 3, 6])), Lengths.of(torch.tensor([5, 2, 3]))


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    return Fusion(12, 10, LayerSizes(layers=2, width=D, heads=2, feed_forward=32)).double()


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(13, 12, generator=generator, dtype=torch.float64),
        torch.randn(10, 10, generator=generator, dtype=torch.float64),
    )


def alone(fusion, audio, text):
    """One pair by hand: CLS, projected audio, projected text."""
    inputs = [fusion.cls_D[None]]
    for states, project, side in (
        (audio, fusion.from_audio, fusion.audio_D),
        (text, fusion.from_text, fusion.text_D),
    ):
        place = positions(Lengths.of(torch.tensor([len(states)])), D)
        inputs.append(project(states) + place + side)
    return eager(fusion.layers, torch.cat(inputs))


def fused(fusion, sides, pairing):
    return fusion(*fusion.project(*sides, AUDIO, TEXT), pairing)


def test_places_are_cls_then_audio_then_text():
    pairing = Pairing.of(AUDIO, TEXT)
    assert pairing.lengths.lengths_B.tolist() == [10, 6, 10]
    assert pairing.audio_A.tolist() == [1, 2, 3, 4, 11, 12, 13, *range(17, 23)]
    assert pairing.text_N.tolist() == [5, 6, 7, 8, 9, 14, 15, 23, 24, 25]
    assert pairing.takes_A is None
    assert pairing.takes_N is None


@pytest.mark.parametrize(
    "pairs", [None, ([0, 1, 2], [2, 0, 1]), ([2, 0], [0, 1]), ([1], [2])], ids=str
)
def test_states_of_a_pair_are_those_that_it_has_alone(fusion, sides, pairs):
    audio, text = pairs or ([0, 1, 2], [0, 1, 2])
    tensors = None if pairs is None else (torch.tensor(audio), torch.tensor(text))
    got = fused(fusion, sides, Pairing.of(AUDIO, TEXT, tensors))
    for row, (a, t) in enumerate(zip(audio, text, strict=True)):
        own_audio, own_text = sides[0][AUDIO.sequence_N == a], sides[1][TEXT.sequence_N == t]
        states = alone(fusion, own_audio, own_text)
        assert torch.allclose(got.cls_BD[row], states[0], atol=1e-10)
        # states come in the order of the clips that they are of, whatever the pairs' order
        taken_A = torch.isin(AUDIO.sequence_N, torch.tensor(audio))
        taken_N = torch.isin(TEXT.sequence_N, torch.tensor(text))
        of_audio = got.audio_AD[AUDIO.sequence_N[taken_A] == a]
        of_text = got.text_ND[TEXT.sequence_N[taken_N] == t]
        assert torch.allclose(of_audio, states[1 : 1 + len(own_audio)], atol=1e-10)
        assert torch.allclose(of_text, states[1 + len(own_audio) :], atol=1e-10)


def test_the_order_of_pairs_permutes_their_results(fusion, sides):
    """What a released WhisBERT gets wrong: there a pair's place in the batch is in its states."""
    one = fused(fusion, sides, Pairing.of(AUDIO, TEXT, (torch.arange(3), torch.tensor([1, 2, 0]))))
    turned = torch.tensor([2, 0, 1])
    other = fused(fusion, sides, Pairing.of(AUDIO, TEXT, (turned, torch.tensor([1, 2, 0])[turned])))
    assert torch.allclose(other.cls_BD, one.cls_BD[turned], atol=1e-12)


def test_a_texts_states_do_not_depend_on_how_long_the_audio_is_but_on_what_it_is(fusion, sides):
    """Positions begin anew for the text: the first token's input is the same behind any audio."""
    projected = fusion.project(*sides, AUDIO, TEXT)[1]
    place = positions(TEXT, D)
    assert torch.equal(projected, fusion.from_text(sides[1]) + fusion.text_D + place)
    assert torch.equal(place[0], place[5])


def test_gradients_reach_both_sides_of_unmatched_pairs(fusion, sides):
    audio, text = (side.clone().requires_grad_() for side in sides)
    pairing = Pairing.of(AUDIO, TEXT, (torch.tensor([0]), torch.tensor([2])))
    fused(fusion, (audio, text), pairing).cls_BD[0, 0].backward()
    assert (audio.grad.abs().sum(1) > 0).tolist() == (AUDIO.sequence_N == 0).tolist()
    assert (text.grad.abs().sum(1) > 0).tolist() == (TEXT.sequence_N == 2).tolist()


def test_a_clip_is_joined_once():
    with pytest.raises(ValueError, match="joined twice"):
        Pairing.of(AUDIO, TEXT, (torch.tensor([0, 0]), torch.tensor([1, 2])))
