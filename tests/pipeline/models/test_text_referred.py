"""The text-referred stack against Hugging Face's BERT decoder, and what its frames may see."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, BertModel

from pipeline.foundation.errors import Damaged, NotThere
from pipeline.models.lengths import Lengths
from pipeline.models.text_referred import AudioConfig, AudioStack, load_audio, save_audio

CONFIG = AudioConfig(
    columns=6,
    width=16,
    text_width=16,
    layers=2,
    heads=4,
    inner_width=64,
    positions=40,
    spread=0.3,  # so that every part has a say
)
FRAMES, TOKENS = torch.tensor([13, 1, 30]), torch.tensor([4, 2, 7])


def stack(**changes) -> AudioStack:
    torch.manual_seed(0)
    return AudioStack(replace(CONFIG, **changes)).eval()


def inputs(seed: int = 1, text_width: int = 16):
    source = torch.Generator().manual_seed(seed)
    values_PC = torch.randn(int(FRAMES.sum()), CONFIG.columns, generator=source)
    text_TK = torch.randn(int(TOKENS.sum()), text_width, generator=source)
    return values_PC, Lengths.of(FRAMES), text_TK, Lengths.of(TOKENS)


def padded(rows: torch.Tensor, lengths: Lengths) -> torch.Tensor:
    return rows[lengths.grid_BL] * lengths.valid_BL[..., None]


def allowed(keys: Lengths, queries: int) -> torch.Tensor:
    """A mask of four axes, which tells BERT's decoder that nothing is hidden but padding."""
    mask = torch.zeros(keys.valid_BL.shape).masked_fill(~keys.valid_BL, torch.finfo().min)
    return mask[:, None, None, :].expand(-1, 1, queries, -1)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_states_are_those_of_berts_decoder_without_its_causal_mask(attention):
    own = stack()
    config = BertConfig(
        vocab_size=1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        type_vocab_size=1,
        layer_norm_eps=CONFIG.norm_epsilon,
        is_decoder=True,
        add_cross_attention=True,
        attn_implementation=attention,
    )
    reference = BertModel(config, add_pooling_layer=False).eval()
    weights = {
        f"encoder.{name}": value
        for name, value in own.state_dict().items()
        if name.startswith("layer.")
    }
    _, unexpected = reference.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert {n for n in reference.state_dict() if n.startswith("encoder.")} == set(weights)
    values_PC, audio, text_TK, text = inputs()
    with torch.no_grad():
        embedded_PD = own.embeddings(values_PC, audio.offset_N)
        longest = audio.valid_BL.shape[1]
        expected_BLD = reference.encoder(
            padded(embedded_PD, audio),
            attention_mask=allowed(audio, longest),
            encoder_hidden_states=padded(text_TK, text),
            encoder_attention_mask=allowed(text, longest),
            use_cache=False,
        ).last_hidden_state
        states_PD = own(values_PC, audio, text_TK, text)
    torch.testing.assert_close(states_PD, expected_BLD[audio.valid_BL], rtol=0, atol=1e-5)


def test_embeddings_are_projection_and_position_in_a_layer_norm():
    own = stack()
    values_PC, audio, _, _ = inputs()
    part = own.embeddings
    summed = values_PC @ part.projection.weight.T + part.projection.bias
    summed = summed + part.position_embeddings.weight[audio.offset_N]
    centred = summed - summed.mean(1, keepdim=True)
    expected = centred / centred.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(part(values_PC, audio.offset_N), expected, rtol=0, atol=1e-4)


def test_a_frame_reaches_frames_before_it_and_no_other_clip():
    own = stack()
    values_PC, audio, text_TK, text = inputs()
    other_PC = values_PC.clone()
    # at random: what is added to all of a state alike, the next layer norm takes away
    other_PC[10] = torch.randn(CONFIG.columns)
    with torch.no_grad():
        apart_PD = own(other_PC, audio, text_TK, text) - own(values_PC, audio, text_TK, text)
    assert bool((apart_PD[:13].abs().amax(1) > 1e-4).all())
    assert not apart_PD[13:].any()


def test_a_token_reaches_the_frames_of_its_clip_alone():
    own = stack()
    values_PC, audio, text_TK, text = inputs()
    other_TK = text_TK.clone()
    other_TK[1] = torch.randn(16)
    with torch.no_grad():
        apart_PD = own(values_PC, audio, other_TK, text) - own(values_PC, audio, text_TK, text)
    assert bool((apart_PD[:13].abs().amax(1) > 1e-4).all())
    assert not apart_PD[13:].any()


def test_clips_in_another_order_have_the_same_states():
    own = stack()
    values_PC, audio, text_TK, text = inputs()
    order = [2, 0, 1]
    frames, tokens = values_PC.split(FRAMES.tolist()), text_TK.split(TOKENS.tolist())
    with torch.no_grad():
        states = own(values_PC, audio, text_TK, text).split(FRAMES.tolist())
        other = own(
            torch.cat([frames[i] for i in order]),
            Lengths.of(FRAMES[order]),
            torch.cat([tokens[i] for i in order]),
            Lengths.of(TOKENS[order]),
        )
    torch.testing.assert_close(other, torch.cat([states[i] for i in order]), rtol=0, atol=1e-5)


def test_another_clips_text_can_be_looked_at():
    own = stack()
    values_PC, audio, text_TK, text = inputs()
    partner_B = torch.tensor([1, 2, 0])
    tokens = text_TK.split(TOKENS.tolist())
    with torch.no_grad():
        states = own(values_PC, audio, text_TK, text, partner_B)
        expected = own(
            values_PC,
            audio,
            torch.cat([tokens[i] for i in partner_B.tolist()]),
            Lengths.of(TOKENS[partner_B]),
        )
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


def test_a_stack_that_does_not_look_equals_one_whose_cross_attention_gives_nothing():
    """But for the layer norm behind it, which is set to pass on what comes in."""
    blind, looking = stack(cross=False), stack()
    shared = {n: v for n, v in looking.state_dict().items() if "crossattention" not in n}
    blind.load_state_dict(shared)
    values_PC, audio, text_TK, text = inputs()
    for layer in looking.layer:
        output = layer.crossattention.output
        torch.nn.init.zeros_(output.dense.weight)
        torch.nn.init.zeros_(output.dense.bias)
        output.LayerNorm = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(
            blind(values_PC, audio, text_TK, text), looking(values_PC, audio, text_TK, text)
        )


def test_what_a_token_hears_is_the_mean_of_the_frames_that_look_at_it():
    own = stack()
    values_PC, audio, text_TK, text = inputs()
    with torch.no_grad():
        heard_TD = own.heard_by_token(values_PC, audio, text_TK, text, at_layer=1)
        states_PD = own(values_PC, audio, text_TK, text).double()
        first = stack(layers=1)
        first.load_state_dict({n: v for n, v in own.state_dict().items() if "layer.1" not in n})
        entering = first(values_PC, audio, text_TK, text)
        layer = own.layer[1]
        from pipeline.models.grids import within

        asking = layer.attended(entering, within(audio))
        query = layer.crossattention.self.query(asking).double().view(-1, 4, 4)
        key = layer.crossattention.self.key(text_TK).double().view(-1, 4, 4)
    frame = token = 0
    for frames, tokens in zip(FRAMES.tolist(), TOKENS.tolist(), strict=True):
        alpha = torch.zeros(frames, tokens, dtype=torch.float64)
        for f in range(frames):
            for head in range(4):
                scores = key[token : token + tokens, head] @ query[frame + f, head] / 2
                alpha[f] += scores.softmax(0) / 4
        expected = (alpha / alpha.sum(0)).T @ states_PD[frame : frame + frames]
        torch.testing.assert_close(
            heard_TD[token : token + tokens].double(), expected, rtol=0, atol=1e-5
        )
        frame, token = frame + frames, token + tokens


def test_texts_of_another_width_can_be_looked_at():
    own = stack(text_width=10)
    assert own(*inputs(text_width=10)).shape == (44, 16)


def test_what_is_written_is_what_is_read(tmp_path):
    own = stack()
    save_audio(own, tmp_path)
    again = load_audio(tmp_path).eval()
    assert again.config == own.config
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs()), own(*inputs()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 10**6}, "layers is 1000000"),
        ({"width": "16"}, "width is '16'"),
        ({"heads": 5}, "5 heads do not divide"),
        ({"inner_width": 2**24}, "do not belong to one model"),
        ({"positions": 39}, "is no audio stack"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"more": 1}, "it has columns"),
    ],
)
def test_a_forged_configuration_is_refused(tmp_path, change, message):
    save_audio(stack(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(Damaged, match=message):
        load_audio(tmp_path)


def test_a_folder_without_a_stack_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(NotThere, match="holds no audio stack"):
        load_audio(tmp_path)
    save_audio(stack(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(Damaged, match="is no audio stack"):
        load_audio(tmp_path)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads"):
        stack(heads=3)
