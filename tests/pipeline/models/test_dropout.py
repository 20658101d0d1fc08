"""Dropout by hashes against whole-number arithmetic of Python and torch's own dropout."""

from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from pipeline.models.copies import encode_copies
from pipeline.models.dropout import Draws, HashedDropout, hash_dropout, lanes
from pipeline.models.packing import encode_first_tokens, encode_packed, pack
from pipeline.models.student import Student, build_student
from tests.helpers.caches import make_cache, wordpiece
from tests.helpers.splitmix import BITS, splitmix64


def dropped_by_hand(number, key, place, width, p):
    """Which values of a token are dropped, one after the other."""
    of_place = splitmix64((splitmix64((number + key) % BITS) + place + 1) % BITS)
    fates = []
    for d in range(width):
        lane = splitmix64((of_place + d // 4) % BITS) >> 16 * (d % 4) & 0xFFFF
        signed = lane - 2**16 if lane >= 2**15 else lane
        fates.append(signed < round(p * 2**16) - 2**15)
    return fates


def draws_of(numbers, key, places=3):
    draws = Draws(places)
    draws.begin(torch.tensor(numbers), torch.tensor(key))
    return draws


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_what_is_dropped_is_what_whole_number_arithmetic_gives(p):
    numbers, key, width = [0, 5, 2**40 + 1], 2**61 + 7, 10
    for place in range(3):
        module = HashedDropout(p, place, draws_of(numbers, key))
        dropped = module(torch.ones(1, 3, width))[0] == 0
        assert dropped.tolist() == [dropped_by_hand(n, key, place, width, p) for n in numbers]
    golden = lanes(torch.tensor([0]), 4)[0].tolist()
    assert golden == [lane for lane in golden if -(2**15) <= lane < 2**15]
    assert golden == [0, 0, 0, 0], "SplitMix64 of 0 is 0, which is why keys are mixed first"


def test_pieces_change_no_bit():
    key_N = torch.arange(1000) * 977
    assert torch.equal(
        lanes(key_N, 6), torch.cat([lanes(key_N[n : n + 1], 6) for n in range(1000)])
    )


@pytest.mark.parametrize("p", [0.0, 0.1, 0.37])
def test_the_share_and_the_scale_are_those_of_torch(p):
    tokens, width = 2000, 64
    states = torch.randn(1, tokens, width, requires_grad=True)
    out = HashedDropout(p, 0, draws_of(list(range(tokens)), 9, 1))(states)
    dropped = out == 0
    test = stats.binomtest(int(dropped.sum()), tokens * width, p) if p else None
    assert test.pvalue > 1e-4 if test else not dropped.any()
    torch.testing.assert_close(out[~dropped], states[~dropped] / (1 - p), rtol=1e-4, atol=0)
    out.sum().backward()
    torch.testing.assert_close(states.grad, (~dropped) / (1 - p), rtol=1e-4, atol=0)


def test_values_tokens_places_and_steps_are_dropped_independently():
    tokens, width = 4000, 16

    def fates(key, place):
        module = HashedDropout(0.5, place, draws_of(list(range(tokens)), key))
        return (module(torch.ones(tokens, width)) == 0).double()

    one = fates(1, 0)
    for other in (fates(2, 0), fates(1, 1), one.roll(1, 0), one.roll(1, 1)):
        both = torch.stack([one.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 4.5 / (tokens * width) ** 0.5
    assert stats.chisquare(one.sum(0).numpy()).pvalue > 1e-4


def test_evaluation_and_states_that_nothing_numbers():
    module = HashedDropout(0.5, 0, draws_of([1, 2, 3], 4))
    ones = torch.ones(5, 8)
    torch.manual_seed(0)
    wanted = functional.dropout(ones, 0.5)
    torch.manual_seed(0)
    assert torch.equal(module(ones), wanted)
    torch.manual_seed(0)
    assert torch.equal(HashedDropout(0.5, 0, Draws(1))(ones), wanted)
    module.eval()
    assert torch.equal(module(ones[:3]), ones[:3])


def test_states_that_a_last_layer_keeps_drop_what_they_would_among_all():
    """They took torch's generator: another dropout on a GPU, and with several processes."""
    module = HashedDropout(0.5, 1, draws_of([4, 9, 2, 7], 6))
    ones = torch.ones(4, 64)
    among_all = module(ones)
    module.draws.kept_K = torch.tensor([0, 2])
    assert torch.equal(module(ones), among_all)
    assert torch.equal(module(ones[:2]), among_all[[0, 2]])


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    cache = make_cache(tmp_path_factory.mktemp("dropout") / "cache", [20])
    return build_student("bert-tiny", wordpiece(cache), 32)


def test_a_student_drops_the_same_in_any_order_and_company(student):
    assert student.model.config.attention_probs_dropout_prob == 0
    assert not any(type(module) is nn.Dropout for module in student.encoder.modules())
    student.train()
    lengths = torch.tensor([3, 5, 2])
    ids_N = torch.arange(5, 15)
    number_N = torch.arange(10) * 1000

    def states(chosen_B, key):
        split_ids, split_numbers = ids_N.split([3, 5, 2]), number_N.split([3, 5, 2])
        packed = pack(torch.cat([split_ids[b] for b in chosen_B]), lengths[chosen_B])
        numbers = torch.cat([split_numbers[b] for b in chosen_B])
        student.draws.begin(numbers, torch.tensor(key))
        return student(packed).split(lengths[chosen_B].tolist())

    torch.manual_seed(0)
    a, b, c = states([0, 1, 2], 7)
    torch.manual_seed(1)  # of no account
    again_c, again_a = states([2, 0], 7)
    torch.testing.assert_close(again_a, a)
    torch.testing.assert_close(again_c, c)
    assert not torch.allclose(states([1], 8)[0], b)
    student.eval()
    calm = states([1], 8)[0]
    assert torch.equal(states([1], 9)[0], calm)


def test_padding_gets_draws_and_changes_none():
    draws = draws_of([4, 5], 6)
    before = draws.keys_PN
    draws.pad(5)
    assert draws.keys_PN.shape == (3, 5)
    assert torch.equal(draws.keys_PN[:, :2], before)
    empty = replace(draws, keys_PN=None)
    empty.pad(5)
    assert empty.keys_PN is None


def test_an_encoder_is_saved_and_loaded_as_before(student, tmp_path):
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    student.save(tmp_path)
    after = Student(type(student.model).from_pretrained(tmp_path)).model.state_dict()
    assert before.keys() == after.keys()
    assert hash_dropout(nn.Sequential(nn.Linear(2, 2))).places == 0


@pytest.mark.parametrize("encode", [encode_first_tokens, encode_copies])
def test_what_the_last_layer_keeps_drops_the_same_whatever_torch_draws(student, encode):
    student.train()
    packed = pack(torch.arange(5, 15), torch.tensor([3, 5, 2]))
    kept = () if encode is encode_first_tokens else (packed.starts_B,)

    def states():
        student.draws.begin(torch.arange(10), torch.tensor(7))
        return encode(student.encoder, packed, *kept)

    torch.manual_seed(0)
    one = states()
    torch.manual_seed(1)
    assert torch.equal(states(), one)
    assert torch.allclose(one, encode_packed(student.encoder, packed)[packed.starts_B], atol=1e-5)
