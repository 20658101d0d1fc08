"""Operations and memory of a speech module, by what torch itself counts and keeps."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.lengths import Lengths
from pipeline.models.speech import SpeechInput, SpeechShape, build_speech
from pipeline.pretraining.sizes import encoder_flops
from pipeline.pretraining.splat.costs import CELL_NUMBERS, FLOAT_BYTES, clip_flops, held_bytes
from pipeline.pretraining.splat.filling import Filling
from pipeline.pretraining.splat.similarity import all_scores, own_scores

CHANNELS, STACK = 80, 4


def filling(width=64, layers=3, most_rows=400):
    torch.manual_seed(0)
    shape = SpeechShape(
        channels=CHANNELS, most_rows=most_rows, stack=STACK, layers=layers, width=width, heads=4
    )
    return Filling(build_speech(shape), CHANNELS, STACK, "all")


def clips(lengths):
    values = torch.randn(sum(lengths), CHANNELS * STACK)
    return SpeechInput.of(Lengths.of(torch.tensor(lengths)), values, "cls")


def test_operations_forward_and_backward_are_those_that_torch_counts():
    """Of one clip, whose attention is not padded; torch counts no fused kernel of a CPU."""
    module, given = filling(), clips([100])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module.head(module.speech(given).frames_ND).sum().backward()
    counted = clip_flops(100, layers=3, width=64, inner=256, stacked=CHANNELS * STACK, attended=101)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.005)


@pytest.mark.parametrize(
    ("positions", "forward"), [(1500, 86.6), (750, 38.1), (375, 17.8)], ids=["k1", "k2", "k4"]
)
def test_the_papers_module_takes_what_the_specification_counted(positions, forward):
    """15 s at 3 layers of 768: 260, 114 and 53 GFLOP forward and backward."""
    stacked = 80 * 1500 // positions
    counted = clip_flops(positions, layers=3, width=768, inner=3072, stacked=stacked)
    assert counted / 3e9 == pytest.approx(forward, rel=0.02)
    body = encoder_flops(positions, 3, 768, 3072)
    assert body < counted / 3


@pytest.mark.parametrize(("width", "layers"), [(64, 1), (64, 4), (160, 2)])
def test_a_step_is_announced_above_what_it_keeps_and_not_far_above(width, layers):
    module, given = filling(width, layers), clips([70, 90, 40])
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # so that no address is used twice
        return tensor

    held = []
    module.speech.begin(given, torch.arange(3) * 1000, torch.tensor(7))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module.train()
        module.head(module.speech(given).frames_ND)
    places, cells = len(given.placed.sequence_N), given.values_NK.numel()
    announced = held_bytes(places, cells, layers, width)
    fixed = FLOAT_BYTES * CELL_NUMBERS * cells  # most of it for the loss and the next batch
    assert sum(kept.values()) < announced
    assert announced - fixed < 1.9 * sum(kept.values())


@pytest.mark.parametrize("among_all", [False, True])
def test_states_as_wide_as_the_text_are_announced_too(among_all):
    """A narrow module that is aligned by tokens to wide states holds more of them than layers."""
    frames, tokens, wide = [70, 90, 40], [5, 9, 3], 384
    state_ND, token_ME = torch.randn(sum(frames), 64), torch.randn(sum(tokens), wide)
    weight_M, text_M = torch.ones(17), torch.arange(3).repeat_interleave(torch.tensor(tokens))
    head, kept, alive = torch.nn.Linear(64, wide), {}, []
    other = {x.untyped_storage().data_ptr() for x in (state_ND, *head.parameters())}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in other:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        state_NE = head(state_ND)
        if among_all:
            all_scores(state_NE, frames, token_ME, text_M, 3, weight_M)
        else:
            own_scores(state_NE, frames, token_ME, tokens, weight_M)
    narrow, whole = (held_bytes(sum(frames), 0, 1, 64, text_width=width) for width in (0, wide))
    # the backward pass takes up to five times as much: torch's profiler has a peak of 5.5
    assert sum(kept.values()) < whole - narrow < 6 * sum(kept.values())
    assert whole - narrow > narrow
