"""An encoder gives for several texts at once what plain transformers gives for each alone."""

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, RobertaConfig

from bench.encoders import tiny_config
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.models import packing
from pipeline.models.checking import LENGTHS, check_head, find_reading
from pipeline.models.packing import encode_first_tokens, encode_packed, most_tokens, pack
from pipeline.models.student import Student

LAYOUTS = {
    "bert": "packed",
    "camembert": "packed",
    "modernbert": "packed",
    "data2vec-text": "packed",
    "deberta": "padded",
    "deberta-v2": "padded",
    "mpnet": "padded",
    "big_bird": "padded",
    "longformer": "padded",
    "mobilebert": "padded",  # reads each token's neighbours before any attention
    "xlnet": "padded",
    "gpt2": "padded",  # reads from left to right, which packed attention does not
    "convbert": "one length",
    "fnet": "one length",
}


def build(kind, auto=AutoModel, **changes):
    torch.manual_seed(0)
    config = tiny_config(kind)
    for name, value in changes.items():
        setattr(config, name, value)
    return auto.from_config(config).eval()


def texts_of(lengths):
    ids_N = torch.randint(5, 99, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    return pack(ids_N, torch.tensor(lengths))


@pytest.mark.parametrize("kind", LAYOUTS)
def test_texts_at_once_give_what_each_gives_alone(kind):
    encoder = build(kind)
    lengths = [7, 20, 7, 1, 3]
    packed = texts_of(lengths)

    def states_and_gradients(encode):
        states_ND = encode()
        (states_ND * torch.arange(1, len(states_ND) + 1)[:, None]).square().mean().backward()
        grads = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
        encoder.zero_grad()
        return states_ND.detach(), grads

    alone_ND, expected = states_and_gradients(
        lambda: torch.cat(
            [encoder(input_ids=x[None]).last_hidden_state[0] for x in packed.ids_N.split(lengths)]
        )
    )
    reading = find_reading(encoder, kind)
    assert reading.layout == LAYOUTS[kind]
    states_ND, grads = states_and_gradients(lambda: encode_packed(encoder, packed))
    torch.testing.assert_close(states_ND, alone_ND, atol=1e-4, rtol=1e-4)
    for name, gradient in expected.items():
        size = float(gradient.abs().max())
        torch.testing.assert_close(
            grads[name], gradient, atol=1e-4 * max(size, 1), rtol=1e-3, msg=name
        )
    first_BD = encode_first_tokens(encoder, packed)
    torch.testing.assert_close(first_BD, alone_ND[packed.starts_B], atol=1e-4, rtol=1e-4)


def test_attention_that_leaks_is_noticed(monkeypatch, capsys):
    right = packing.packed_attention

    def leaks(module, query, key, value, mask, *, packed, **options):
        whole = pack(packed.ids_N, torch.tensor([len(packed.ids_N)]))
        return right(module, query, key, value, mask, packed=whole, **options)

    monkeypatch.setattr(packing, "packed_attention", leaks)
    encoder = build("bert")
    try:
        assert find_reading(encoder, "leaky").layout == "padded"
    finally:
        monkeypatch.undo()
        packing.use_packed_attention(encoder)
    assert "leaky: bert reads padded batches" in capsys.readouterr().err


def test_wrong_positions_are_noticed(monkeypatch):
    monkeypatch.setattr(packing, "first_position", lambda _: 0)
    assert find_reading(build("roberta"), "r").layout == "padded"


@pytest.mark.parametrize(
    ("kind", "most"),
    [("roberta", 62), ("mpnet", 62), ("longformer", 62), ("bert", 64), ("nystromformer", 64)],
)
def test_the_longest_text_is_the_longest_that_runs(kind, most):
    encoder = build(kind)
    assert find_reading(encoder, kind).most_tokens == most_tokens(encoder) == most
    with torch.no_grad():
        assert torch.isfinite(encode_packed(encoder, texts_of([most]))).all()
        with pytest.raises((IndexError, RuntimeError)):
            encode_packed(encoder, texts_of([most + 1]))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bart", "the states of a decoder"),
        ("t5", "the states of a decoder"),
        ("perceiver", "cannot read a text as token ids alone"),
        ("reformer", "cannot read a text as token ids alone"),
    ],
)
def test_what_is_no_text_encoder_is_refused(kind, words):
    with pytest.raises(SpeechkdError, match=words):
        find_reading(build(kind), kind)


def test_an_encoder_whose_tokens_do_not_read_each_other_is_refused():
    encoder = build("bert")
    for layer in encoder.encoder.layer:
        layer.attention.output.dense.weight.data.zero_()
    with pytest.raises(SpeechkdError, match="do not depend on a token's neighbours"):
        find_reading(encoder, "deaf")


def test_weights_that_are_no_numbers_are_told():
    encoder = build("bert")
    encoder.encoder.layer[1].output.dense.weight.data[0, 0] = torch.nan
    with pytest.raises(Damaged, match="no finite numbers"):
        find_reading(encoder, "broken")


def test_checking_draws_nothing_and_changes_nothing():
    model = build("deberta-v2", AutoModelForMaskedLM).train()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = torch.get_rng_state()
    Student(model, "s")
    assert torch.get_rng_state().equal(before)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.equal(weights[name])


def test_a_model_without_weights_is_a_student_to_count_with():
    with torch.device("meta"):
        student = Student(build("bert", AutoModelForMaskedLM), "counted")
    assert student.reading.layout == "packed"
    assert student.reading.most_tokens == 64
    assert sum(p.numel() for p in student.parameters()) > 0


def test_windows_of_attention_are_tried_with_a_text_beyond_them(monkeypatch):
    lengths = []

    def seen(ids_N, lengths_B):
        lengths.append(lengths_B.tolist())
        return pack(ids_N, lengths_B)

    monkeypatch.setattr("pipeline.models.checking.pack", seen)
    find_reading(build("modernbert", local_attention=20), "m")
    assert lengths == [[*LENGTHS, 12]]


@pytest.mark.parametrize("kind", ["longformer", "luke", "deberta-v2", "mpnet", "modernbert"])
def test_heads_give_the_logits_of_the_whole_model(kind):
    model = build(kind, AutoModelForMaskedLM)
    ids_N = texts_of([9]).ids_N
    with torch.no_grad():
        whole_NV = model(input_ids=ids_N[None]).logits[0]
        student = Student(model, kind)
        states_ND = student(texts_of([9]))
        torch.testing.assert_close(student.masked_lm_logits(states_ND), whole_NV)


def test_a_head_that_is_not_the_models_own_is_refused():
    model = build("roberta", AutoModelForMaskedLM)
    student = Student(model, "r")
    with pytest.raises(SpeechkdError, match=r"head of a roberta .* \(off by"):
        check_head(model, lambda states_ND: student.masked_lm_logits(2 * states_ND), "r")


def test_a_position_table_of_two_rows_is_no_crash():
    config = RobertaConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=2, pad_token_id=1,
    )  # fmt: skip
    with pytest.raises(SpeechkdError, match="cannot read a text"):
        find_reading(AutoModel.from_config(config), "short")
