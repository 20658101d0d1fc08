from copy import deepcopy

import pytest
import torch
from transformers import AutoModel, ElectraConfig, MobileBertConfig, XLMRobertaConfig

from pipeline.models.first_tokens import encode_first_tokens
from pipeline.models.packing import encode_packed, use_packed_attention
from tests.pipeline.models.test_packing import CONFIGS, SMALL, make_batch

LIKE_BERT = {
    "electra": ElectraConfig(intermediate_size=64, embedding_size=16, **SMALL),
    "xlm-roberta": XLMRobertaConfig(intermediate_size=64, pad_token_id=1, **SMALL),
}
OTHERS = {
    "mobilebert": MobileBertConfig(
        intermediate_size=64, embedding_size=16, intra_bottleneck_size=32, **SMALL
    ),
}
SKIPPING = ("bert", "roberta", *LIKE_BERT)


def an_encoder(kind):
    torch.manual_seed(0)
    config = (CONFIGS | LIKE_BERT | OTHERS)[kind]
    encoder = AutoModel.from_config(deepcopy(config)).eval().double()
    use_packed_attention(encoder)
    return encoder


@pytest.mark.parametrize("kind", [*CONFIGS, *LIKE_BERT, *OTHERS])
@pytest.mark.parametrize("lengths", [[1], [5, 17, 1, 30]])
def test_states_and_gradients_are_those_of_the_whole_encoder(kind, lengths):
    def states_and_gradients(encode):
        encoder = an_encoder(kind)
        packed, _ = make_batch(lengths, encoder.config.pad_token_id)
        states_BD = encode(encoder, packed)
        states_BD.square().sum().backward()
        return states_BD, {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}

    first_BD, gradients = states_and_gradients(encode_first_tokens)
    whole_BD, expected = states_and_gradients(
        lambda encoder, packed: encode_packed(encoder, packed)[packed.starts_B]
    )
    torch.testing.assert_close(first_BD, whole_BD, atol=1e-12, rtol=1e-9)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-11, rtol=1e-8, msg=name)


@pytest.mark.parametrize("kind", SKIPPING)
def test_the_last_dense_part_sees_the_first_tokens_only(kind):
    encoder = an_encoder(kind)
    packed, _ = make_batch([5, 17, 1, 30], encoder.config.pad_token_id)
    seen = []
    for layer in encoder.encoder.layer:
        layer.intermediate.register_forward_hook(lambda _, x, __: seen.append(x[0].shape[1]))
    encode_first_tokens(encoder, packed)
    assert seen == [53, 4]
    encode_packed(encoder, packed)
    assert seen[2:] == [53, 53], "the encoder is left as it was"
