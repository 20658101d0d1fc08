"""Scores of the alignment heads, against Hugging Face's whole decoder on random models."""

import pytest
import torch
import transformers

from pipeline.extraction.decoder import AlignmentDecoder, DecoderShape
from pipeline.foundation.errors import Damaged

SHAPE = DecoderShape(48, 3, 3, 96, 64, 32)


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=48,
        encoder_layers=1,
        encoder_attention_heads=3,
        encoder_ffn_dim=96,
        decoder_layers=3,
        decoder_attention_heads=3,
        decoder_ffn_dim=96,
        vocab_size=64,
        max_target_positions=32,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        attn_implementation="eager",
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def tensors_of(model):
    prefix = "model.decoder."
    state = model.state_dict()
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


@pytest.mark.parametrize(
    "heads", [((0, 1),), ((2, 0), (2, 2)), ((0, 0), (1, 1), (1, 2), (2, 1)), ((1, 0),)]
)
def test_attention_equals_hugging_faces(reference, heads):
    tokens_BL = torch.randint(64, (2, 11), generator=torch.Generator().manual_seed(1))
    audio_BTE = torch.randn(2, 40, 48, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        told = reference.model.decoder(
            tokens_BL, encoder_hidden_states=audio_BTE, output_attentions=True
        )
    decoder = AlignmentDecoder.from_tensors(SHAPE, heads, tensors_of(reference), "here")
    weights_BALT = decoder(tokens_BL, audio_BTE).softmax(-1)
    expected = torch.stack([told.cross_attentions[layer][:, head] for layer, head in heads], 1)
    assert weights_BALT.shape == expected.shape
    assert torch.allclose(weights_BALT, expected, atol=1e-6)
    assert float(expected.std()) > 1e-3  # the heads do look somewhere


def test_padding_after_a_clips_tokens_changes_nothing(reference):
    decoder = AlignmentDecoder.from_tensors(SHAPE, ((0, 0), (2, 1)), tensors_of(reference), "here")
    tokens_BL = torch.arange(1, 15).view(2, 7)
    audio_BTE = torch.randn(2, 20, 48, generator=torch.Generator().manual_seed(3))
    alone = decoder(tokens_BL[:1, :4], audio_BTE[:1])
    assert torch.allclose(decoder(tokens_BL, audio_BTE)[:1, :, :4], alone, atol=1e-5)


def test_layers_above_the_last_alignment_head_are_not_built(reference):
    decoder = AlignmentDecoder.from_tensors(SHAPE, ((1, 0),), tensors_of(reference), "here")
    assert len(decoder.layers) == 2
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("lost", "message"),
    [("layers.1.fc1.weight", "fc1.weight"), ("layers.0.self_attn.q_proj.bias", "qkv_proj")],
)
def test_a_missing_tensor_is_named(reference, lost, message):
    tensors = tensors_of(reference)
    del tensors[lost]
    with pytest.raises(Damaged, match=message):
        AlignmentDecoder.from_tensors(SHAPE, ((2, 0),), tensors, "here")


def test_a_tensor_of_another_shape_is_named(reference):
    tensors = tensors_of(reference) | {"embed_positions.weight": torch.zeros(3, 48)}
    with pytest.raises(Damaged, match=r"embed_positions\.weight \(weights: \(3, 48\)"):
        AlignmentDecoder.from_tensors(SHAPE, ((0, 0),), tensors, "here")
