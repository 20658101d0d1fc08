"""States at some places of copies are those of the whole encoder, for less work."""

import pytest
import torch

from pipeline.models.checking import find_reading
from pipeline.models.copies import encode_copies
from pipeline.models.packing import encode_packed, pack
from tests.pipeline.models.test_checking import LAYOUTS, build
from tests.pipeline.models.test_packing import (
    CONFIGS,
    LIKE_BERT,
    OTHERS,
    SKIPPING,
    build_encoder,
)

TEXTS = [[5, 9, 7, 9], [5, 8, 7, 9, 9, 6], [11]]
MASK = 3


def masked_copies():
    """A copy per token with that token masked, and where the masks are."""
    copies = [
        [*text[:place], MASK, *text[place + 1 :]] for text in TEXTS for place in range(len(text))
    ]
    packed = pack(
        torch.tensor([id_ for copy in copies for id_ in copy]),
        torch.tensor([len(copy) for copy in copies]),
    )
    return packed, (packed.ids_N == MASK).nonzero()[:, 0]


@torch.no_grad()
@pytest.mark.parametrize("kind", [*CONFIGS, *LIKE_BERT, *OTHERS])
def test_states_are_those_of_the_whole_encoder(kind):
    encoder = build_encoder(kind)
    packed, place_K = masked_copies()
    whole_KD = encode_packed(encoder, packed)[place_K]
    assert whole_KD.std(0).min() > 1e-5, "places differ, so that a mistaken one would show"
    torch.testing.assert_close(
        encode_copies(encoder, packed, place_K), whole_KD, atol=1e-12, rtol=1e-9
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(set(LAYOUTS) - set(CONFIGS)))
def test_encoders_of_other_layouts_compute_everything(kind):
    encoder = build(kind)
    find_reading(encoder, kind)
    packed, place_K = masked_copies()
    whole_KD = encode_packed(encoder, packed)[place_K]
    torch.testing.assert_close(encode_copies(encoder, packed, place_K), whole_KD)


@torch.no_grad()
@pytest.mark.parametrize("kind", SKIPPING)
def test_no_state_is_projected_twice_and_the_last_dense_part_sees_asked_places_only(kind):
    encoder = build_encoder(kind)
    packed, place_K = masked_copies()
    first, last = encoder.encoder.layer
    projections = [getattr(first.attention.self, name) for name in ("query", "key", "value")]
    seen = []

    def count(_, inputs, __):
        seen.append(inputs[0].shape[1])

    dense = last.intermediate.dense
    for module in (*projections, dense):
        module.register_forward_hook(count, prepend=True)
    encode_copies(encoder, packed, place_K)
    pairs = set(zip(packed.ids_N.tolist(), packed.offset_N.tolist(), strict=True))
    assert len(pairs) < len(packed.ids_N) / 2
    assert seen[3:] == [len(place_K)]
    if kind != "electra":  # widens its embeddings, and a matrix may round equal rows differently
        assert seen[:3] == [len(pairs)] * 3
    seen.clear()
    encode_packed(encoder, packed)
    assert seen == [len(packed.ids_N)] * 4, "the encoder is left as it was"


@torch.no_grad()
def test_an_encoder_whose_first_states_see_more_than_token_and_position_is_right():
    """Taken as alike by token and position, its states would all be those of one copy."""
    encoder = build_encoder("bert")
    packed, place_K = masked_copies()

    def add_noise(_, __, states_1ND):
        return states_1ND + torch.randn(
            states_1ND.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )

    encoder.embeddings.register_forward_hook(add_noise)
    whole_KD = encode_packed(encoder, packed)[place_K]
    torch.testing.assert_close(
        encode_copies(encoder, packed, place_K), whole_KD, atol=1e-12, rtol=1e-9
    )
