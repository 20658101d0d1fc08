"""The audio encoder, against plain convolutions and transformers' own layer, clip by clip.

Shapes: P patches, D width, W width of a frame.
"""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional

from pipeline.models.lengths import Lengths
from pipeline.models.whisbert.layers import LayerSizes, positions
from pipeline.models.whisbert.patches import lay_out
from pipeline.models.whisbert.speech_encoder import ConvStem, SpeechEncoder, WithFirst

WIDTH, D = 6, 16
SIZES = LayerSizes(layers=2, width=D, heads=2, feed_forward=32)


@pytest.fixture
def speech():
    torch.manual_seed(0)
    return SpeechEncoder(WIDTH, SIZES, 10).double()


def frames_of(*lengths, seed=1, per_patch=10):
    generator = torch.Generator().manual_seed(seed)
    clips = [torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) for n in lengths]
    return clips, lay_out(torch.cat(clips), torch.tensor(lengths), per_patch)


def stem_alone(stem, clip_FW, per_patch=10):
    """One clip by plain convolutions with padding, silence behind it."""
    missing = -len(clip_FW) % per_patch
    whole = torch.cat([clip_FW, clip_FW.min().expand(missing, WIDTH)])
    beyond = 16 - per_patch
    u = functional.gelu(
        functional.conv1d(functional.pad(whole.T, (7, 8)), stem.first.weight, stem.first.bias)
    )
    z = functional.conv1d(
        functional.pad(u, (beyond // 2, beyond - beyond // 2)),
        stem.second.weight,
        stem.second.bias,
        stride=per_patch,
    )
    return stem.norm(functional.gelu(z).T)


@pytest.mark.parametrize("per_patch", [5, 10])
@pytest.mark.parametrize("normed", [True, False])
def test_a_clips_patches_are_those_of_plain_convolutions_over_it_alone(per_patch, normed):
    torch.manual_seed(0)
    stem = ConvStem(WIDTH, D, per_patch, normed=normed).double()
    clips, frames = frames_of(1, 9, 10, 11, 33, 150, per_patch=per_patch)
    together = stem(frames)
    for clip, own in enumerate(clips):
        alone = stem_alone(stem, own, per_patch)
        assert len(alone) == -(-len(own) // per_patch)
        assert torch.allclose(together[frames.patches.sequence_N == clip], alone, atol=1e-12)


def test_a_patch_sees_thirty_one_frames_centred_on_its_own_ten(speech):
    clip = torch.randn(100, WIDTH, dtype=torch.float64)
    before = speech.patches(lay_out(clip, torch.tensor([100]), 10))[5]
    seen = []
    for frame in range(100):
        other = clip.clone()
        other[frame] += 1
        after = speech.patches(lay_out(other, torch.tensor([100]), 10))[5]
        if not torch.equal(before, after):
            seen.append(frame)
    assert seen == list(range(40, 71))


def eager(layers, inputs_ND):
    """The same layers by transformers' eager attention over one sequence."""
    layers = deepcopy(layers)
    for layer in layers.layers:
        layer.self_attn.config._attn_implementation = "eager"
        inputs_ND = layer(inputs_ND[None], None)[0]
    return layers.norm(inputs_ND)


def test_states_are_those_of_whispers_own_layer_over_each_clip_alone(speech):
    clips, frames = frames_of(7, 64, 120)
    places = WithFirst.of(frames.patches)
    masked = torch.arange(len(frames.place_P)) % 3 == 1
    together = speech(speech.patches(frames), places, masked)
    for clip, own in enumerate(clips):
        mine = frames.patches.sequence_N == clip
        patches = stem_alone(speech.stem, own)
        patches[masked[mine]] = speech.mask_D
        lengths = Lengths.of(torch.tensor([len(patches)]))
        inputs = torch.cat([speech.cls_D[None], patches + positions(lengths, D)])
        alone = eager(speech.layers, inputs)
        assert torch.allclose(together[places.outer.sequence_N == clip], alone, atol=1e-10)


def test_order_and_company_change_nothing(speech):
    clips, frames = frames_of(20, 35, 90)
    states = speech(speech.patches(frames), WithFirst.of(frames.patches))
    turned = lay_out(torch.cat(clips[::-1]), torch.tensor([90, 35, 20]), 10)
    back = speech(speech.patches(turned), WithFirst.of(turned.patches))
    pieces = states.split([3, 5, 10]), back.split([10, 5, 3])
    for one, other in zip(pieces[0], pieces[1][::-1], strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_a_learned_mask_counts_and_a_constant_one_does_not(speech):
    """Pre-norm layers take the mean away: −5 and +1000 everywhere are the same as 0 (A5)."""
    _, frames = frames_of(80)
    patches, places = speech.patches(frames), WithFirst.of(frames.patches)
    masked = torch.arange(8) < 4
    states = {}
    for value in (0.0, -5.0, 1000.0):
        speech.mask_D.data.fill_(value)
        states[value] = speech(patches, places, masked)[1:5] - 0
    assert torch.allclose(states[0.0], states[-5.0], atol=1e-6)
    assert torch.allclose(states[0.0], states[1000.0], atol=1e-3)
    speech.mask_D.data.copy_(torch.randn(D))
    assert not torch.allclose(states[0.0], speech(patches, places, masked)[1:5], atol=1e-2)


def test_the_first_state_has_no_position_and_all_places_are_found():
    inner = Lengths.of(torch.tensor([2, 1, 3]))
    places = WithFirst.of(inner)
    assert places.outer.starts_B.tolist() == [0, 3, 5]
    assert places.place_N.tolist() == [1, 2, 4, 6, 7, 8]
