"""Sequences of any kind: each place once among its own, and vectors in the place of tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from pipeline.models.lengths import BAND_TOKENS, LONG_BAND_TOKENS, LONG_FROM, Lengths
from pipeline.models.packing import encode_values, pack, use_packed_attention


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=6))
def test_bands_of_frames_hold_each_place_once_and_are_few(counts):
    lengths = Lengths.of(torch.tensor(counts))
    bands = lengths.bands
    assert bands.source_G[bands.place_N].equal(torch.arange(sum(counts)))
    width = BAND_TOKENS if max(counts) < LONG_FROM else LONG_BAND_TOKENS
    assert len(bands.bands) == len({(count - 1) // width for count in counts})
    for band in bands.bands:
        assert int(band.valid_BL.sum(1).min()) > band.longest - width


@pytest.mark.parametrize("counts", [[3, 0], [0]])
def test_an_empty_sequence_is_refused(counts):
    with pytest.raises(ValueError, match="shortest 0"):
        Lengths.of(torch.tensor(counts))


def test_what_moves_to_a_device_stays_what_it_is():
    packed = pack(torch.arange(5), torch.tensor([2, 3]))
    moved = packed.to(torch.device("meta"))
    assert type(moved) is type(packed)
    assert {value.device.type for value in vars(moved).values()} == {"meta"}


def test_vectors_in_the_place_of_tokens_give_hugging_faces_padded_states():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=9, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=600,
    )  # fmt: skip
    encoder = BertModel(config, add_pooling_layer=False).eval()
    lengths = Lengths.of(torch.tensor([5, 530, 17]))
    values_ND = torch.randn(552, 32)
    padded_BLD = torch.zeros(3, 530, 32)
    padded_BLD[lengths.valid_BL] = values_ND
    with torch.no_grad():
        wanted_BLD = encoder(
            inputs_embeds=padded_BLD, attention_mask=lengths.valid_BL.long()
        ).last_hidden_state
        use_packed_attention(encoder)
        states_ND = encode_values(encoder, lengths, values_ND)
    torch.testing.assert_close(states_ND, wanted_BLD[lengths.valid_BL], atol=1e-5, rtol=1e-5)
