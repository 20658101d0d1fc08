"""Packed sequences give the states and gradients of Hugging Face's padded ones."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    MobileBertConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from pipeline.models.lengths import BAND_TOKENS, to_device
from pipeline.models.packing import (
    batches_by_length,
    encode_first_tokens,
    encode_packed,
    pack,
    use_packed_attention,
)
from pipeline.models.student import Student

SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "bert": BertConfig(intermediate_size=64, **SMALL),
    "roberta": RobertaConfig(intermediate_size=64, pad_token_id=1, **SMALL),
    "distilbert": DistilBertConfig(vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    # four layers, so that global and local attention (three tokens to each side) both occur
    "modernbert": ModernBertConfig(
        intermediate_size=64,
        **{**SMALL, "num_hidden_layers": 4},
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        local_attention=6,
    ),
}

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


def make_batch(lengths, pad_id):
    lengths_B = torch.tensor(lengths)
    ids_N = torch.randint(
        5, 99, (int(lengths_B.sum()),), generator=torch.Generator().manual_seed(1)
    )
    packed = pack(ids_N, lengths_B)
    padded_BL = torch.full(packed.grid_BL.shape, pad_id)
    padded_BL[packed.valid_BL] = ids_N
    return packed, padded_BL


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("lengths", [[1], [5, 17, 1, 30], [8, 8, 8]])
def test_packed_equals_hugging_faces_padded_forward(kind, lengths):
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(deepcopy(CONFIGS[kind])).eval()
    packed, padded_BL = make_batch(lengths, model.config.pad_token_id)
    mask = packed.valid_BL.long()
    with torch.no_grad():
        hidden = model.base_model(input_ids=padded_BL, attention_mask=mask).last_hidden_state
        logits = model(input_ids=padded_BL, attention_mask=mask).logits
        student = Student(model)
        states_ND = student(packed)
        torch.testing.assert_close(states_ND, hidden[packed.valid_BL], atol=1e-5, rtol=1e-5)
        chosen = torch.tensor([0, len(states_ND) - 1])
        torch.testing.assert_close(
            student.masked_lm_logits(states_ND[chosen]),
            logits[packed.valid_BL][chosen],
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_equal_hugging_faces_padded_ones(kind):
    def gradients(loss_of):
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(deepcopy(CONFIGS[kind])).eval()
        packed, padded_BL = make_batch([4, 9, 2], model.config.pad_token_id)
        targets = packed.ids_N.roll(1)
        torch.nn.functional.cross_entropy(loss_of(model, packed, padded_BL), targets).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    padded = gradients(
        lambda model, packed, padded_BL: model(
            input_ids=padded_BL, attention_mask=packed.valid_BL.long()
        ).logits[packed.valid_BL]
    )

    def through_student(model, packed, _):
        student = Student(model)
        return student.masked_lm_logits(student(packed))

    ours = gradients(through_student)
    assert ours.keys() == padded.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, padded[name], atol=1e-5, rtol=1e-4, msg=name)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_packing_puts_each_token_where_it_says(lengths):
    ids_N = torch.arange(sum(lengths))
    packed = pack(ids_N, torch.tensor(lengths))
    for b, sequence in enumerate(ids_N.split(lengths)):
        assert packed.ids_N[packed.grid_BL[b, : lengths[b]]].equal(sequence)
        assert packed.valid_BL[b].sum() == lengths[b]
    assert packed.grid_BL[packed.sequence_N, packed.offset_N].equal(ids_N)
    assert packed.starts_B.equal(torch.tensor(lengths).cumsum(0) - torch.tensor(lengths))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_bands_hold_each_token_once_among_its_own(lengths):
    packed = pack(torch.arange(sum(lengths)), torch.tensor(lengths))
    bands = packed.bands
    assert bands.source_G[bands.place_N].equal(torch.arange(sum(lengths)))
    assert sum(int(band.valid_BL.sum()) for band in bands.bands) == sum(lengths)
    held = torch.cat([band.valid_BL.flatten() for band in bands.bands])
    assert held[bands.place_N].all()
    start = 0
    for band in bands.bands:
        grid = bands.source_G[start : start + band.valid_BL.numel()].view(band.valid_BL.shape)
        start += grid.numel()
        for row, valid in zip(grid, band.valid_BL, strict=True):
            assert len(set(packed.sequence_N[row[valid]].tolist())) == 1
            assert lengths[packed.sequence_N[row[0]]] == int(valid.sum())
            assert int(valid.sum()) > band.longest - BAND_TOKENS
    assert start == len(bands.source_G)


@pytest.mark.parametrize("lengths", [[3], [4, 0], [2, 3]])
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(ValueError, match="lengths add up to"):
        pack(torch.arange(4), torch.tensor(lengths))


def build_encoder(kind):
    torch.manual_seed(0)
    config = (CONFIGS | LIKE_BERT | OTHERS)[kind]
    encoder = AutoModel.from_config(deepcopy(config)).eval().double()
    use_packed_attention(encoder)
    return encoder


@pytest.mark.parametrize("kind", [*CONFIGS, *LIKE_BERT, *OTHERS])
@pytest.mark.parametrize("lengths", [[1], [5, 17, 1, 30]])
def test_states_and_gradients_are_those_of_the_whole_encoder(kind, lengths):
    def states_and_gradients(encode):
        encoder = build_encoder(kind)
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
    encoder = build_encoder(kind)
    packed, _ = make_batch([5, 17, 1, 30], encoder.config.pad_token_id)
    seen = []
    for layer in encoder.encoder.layer:
        layer.intermediate.register_forward_hook(lambda _, x, __: seen.append(x[0].shape[1]))
    encode_first_tokens(encoder, packed)
    assert seen == [53, 4]
    encode_packed(encoder, packed)
    assert seen[2:] == [53, 53], "the encoder is left as it was"


@settings(deadline=None)
@given(st.lists(st.integers(1, 128), max_size=80), st.integers(1, 300))
def test_batches_by_length_hold_each_text_once(lengths, tokens):
    batches = list(batches_by_length(lengths, tokens))
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths), "neighbours are of like length"
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= tokens


def test_a_tensor_that_is_where_it_shall_be_is_not_copied():
    tensor = torch.ones(3)
    assert to_device(tensor, torch.device("cpu")) is tensor


def attention_calls(monkeypatch):
    """What each call of attention is asked, and whether cuDNN's kernels may answer."""
    calls, real = [], torch.nn.functional.scaled_dot_product_attention

    def seen(*args, attn_mask=None, **options):
        calls.append((attn_mask, torch.backends.cuda.cudnn_sdp_enabled()))
        return real(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    return calls


def test_every_row_of_windowed_attention_sees_something(monkeypatch):
    calls = attention_calls(monkeypatch)
    lengths = [30, 17, 20]
    packed, _ = make_batch(lengths, 0)
    encode_packed(build_encoder("modernbert"), packed)
    masks = [mask for mask, _ in calls if mask.shape[-2] > 1]
    assert masks, "some layers have windows"
    for mask in masks:
        assert mask.any(-1).all()
        for row, length in zip(mask[:, 0], lengths, strict=True):
            near = (torch.arange(length)[:, None] - torch.arange(length)).abs() <= 3
            assert row[:length, :length].equal(near), "a token sees what it saw"
            assert not row[:length, length:].any()


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("encode", [encode_packed, encode_first_tokens])
def test_students_and_probes_have_no_cudnn_attention(monkeypatch, encode, allowed):
    calls = attention_calls(monkeypatch)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(allowed)
    try:
        packed, _ = make_batch([3, 9], 0)
        encode(build_encoder("bert"), packed)
        assert [cudnn for _, cudnn in calls] == [False] * 2
        assert torch.backends.cuda.cudnn_sdp_enabled() == allowed, "it is as it was"
        with pytest.raises(AttributeError):
            encode(build_encoder("bert"), None)
        assert torch.backends.cuda.cudnn_sdp_enabled() == allowed
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def bf16_step(monkeypatch, rows):
    """States and gradients of a step with dropout, tokens rounded up to a number of rows."""
    monkeypatch.setattr("pipeline.models.packing.BF16_ROWS", rows)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    student = Student(AutoModelForMaskedLM.from_config(config)).train()
    packed = pack(torch.arange(30) % 50, torch.tensor([5, 7, 18]))
    student.draws.begin(torch.arange(30), torch.tensor(7))
    seen = []
    student.encoder.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states_ND = encode_packed(student.encoder, packed)
        loss = student.masked_lm_loss(states_ND, packed.ids_N, torch.tensor([2, 3, 11, 28]))
    (loss + states_ND.square().sum()).backward()
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    return seen, states_ND.detach(), float(loss.detach()), gradients


def test_tokens_that_round_up_a_batch_in_bf16_change_nothing(monkeypatch):
    sizes, states, loss, gradients = bf16_step(monkeypatch, 1)
    rounded, same_states, same_loss, same_gradients = bf16_step(monkeypatch, 64)
    assert (sizes, rounded) == ([30], [64])
    assert states.shape == same_states.shape
    assert same_loss == pytest.approx(loss, rel=0.01)
    torch.testing.assert_close(same_states, states, atol=0.05, rtol=0.02)
    for one, other in zip(same_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=0.02 * float(other.abs().max()), rtol=0.02)
