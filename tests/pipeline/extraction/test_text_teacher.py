"""The text teacher against `AutoModel` on one text at a time."""

import shutil

import pytest
import torch
import transformers

from pipeline.extraction import text_teacher
from pipeline.extraction.text_teacher import load_text_teacher
from pipeline.foundation.errors import NotThere, SpeechkdError
from tests.helpers.encoders import save_encoder

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "A",
    "THE QUICK BROWN FOX",
    "",
    "zzz qqq 🙂 the",
    "dog " * 30,
    "over the fox",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder") / "tiny", TEXTS)


def alone(folder, text: str, layer: int = -1, max_tokens: int = 32) -> torch.Tensor:
    """The library's states of one text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_tokens)
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    return (output.last_hidden_state if layer < 0 else output.hidden_states[layer])[0]


def states(teacher, texts):
    tokens = teacher.tokens_of(texts)
    return teacher.states_of(tokens.ids).split([len(row) for row in tokens.ids])


@pytest.mark.parametrize("layer", [-1, 0, 1, 2])
def test_states_are_those_of_the_library_for_each_text_alone(folder, layer, monkeypatch):
    monkeypatch.setattr(text_teacher, "TOKENS_PER_PASS", (40, 40))
    teacher = load_text_teacher(str(folder), layer=layer, lowercase=False, max_tokens=32)
    for text, states_LE in zip(TEXTS, states(teacher, TEXTS), strict=True):
        expected_LE = alone(folder, text, layer)
        torch.testing.assert_close(states_LE, expected_LE, rtol=1e-4, atol=1e-5)


def test_other_families_of_encoders(tmp_path, folder):
    """RoBERTa counts positions from its padding, DistilBERT has no token types."""
    vocabulary = len(transformers.AutoTokenizer.from_pretrained(folder))
    sizes = {"vocab_size": vocabulary, "max_position_embeddings": 80, "pad_token_id": 3}
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    kinds = {
        "roberta": {**sizes, **wide, "intermediate_size": 48, "type_vocab_size": 1},
        "distilbert": {**sizes, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
        "deberta-v2": {**sizes, **wide, "intermediate_size": 48, "relative_attention": True},
        # padding changes what these give, so only texts of one length go together
        "convbert": {**sizes, **wide, "intermediate_size": 48, "embedding_size": 32},
        "fnet": {**sizes, **wide, "intermediate_size": 48},
    }
    for kind, options in kinds.items():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **options)
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path / kind)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / kind)
        teacher = load_text_teacher(str(tmp_path / kind), lowercase=False, max_tokens=32)
        assert teacher.one_length == (kind in ("convbert", "fnet"))
        for text, states_LE in zip(TEXTS, states(teacher, TEXTS), strict=True):
            expected_LE = alone(tmp_path / kind, text)
            torch.testing.assert_close(states_LE, expected_LE, rtol=1e-4, atol=1e-5)


def test_long_texts_are_cut_and_counted(folder):
    teacher = load_text_teacher(str(folder), max_tokens=8)
    tokens = teacher.tokens_of(TEXTS)
    whole = [len(teacher.tokenizer(text.lower())["input_ids"]) for text in TEXTS]
    assert tokens.cut == {place for place, length in enumerate(whole) if length > 8} != set()
    assert max(map(len, tokens.ids)) == 8
    separator = teacher.tokenizer.sep_token_id
    assert all(row[-1] == separator for row in tokens.ids)
    assert teacher.tokens_of([]).ids == []


def test_texts_are_lower_cased_for_a_teacher_that_has_case(tmp_path, folder):
    cased = shutil.copytree(folder, tmp_path / "cased")
    rules = (cased / "tokenizer.json").read_text()
    assert '"lowercase": true' in rules
    (cased / "tokenizer.json").write_text(rules.replace('"lowercase": true', '"lowercase": false'))
    lower, as_it_is = (load_text_teacher(str(cased), lowercase=x, max_tokens=32) for x in (1, 0))
    shouted = ["THE QUICK BROWN FOX"]
    assert lower.tokens_of(shouted).ids == lower.tokens_of(["the quick brown fox"]).ids
    assert as_it_is.tokens_of(shouted).ids != lower.tokens_of(shouted).ids
    assert lower.tokenizer_sha256 != load_text_teacher(str(folder), max_tokens=32).tokenizer_sha256


def test_the_student_of_a_run_is_found(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "run" / "student")
    teacher = load_text_teacher(str(tmp_path / "run"), max_tokens=32)
    again = load_text_teacher(str(folder), max_tokens=32)
    assert teacher.id == "run"
    assert teacher.sha256 == again.sha256
    assert teacher.tokenizer_sha256 == again.tokenizer_sha256


def test_what_cannot_be_used_is_said(tmp_path, folder):
    bare = shutil.copytree(folder, tmp_path / "bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(NotThere, match="has no tokenizer"):
        load_text_teacher(str(bare))
    with pytest.raises(SpeechkdError, match=r"--max-tokens 65: .* has positions for 64 tokens"):
        load_text_teacher(str(folder), max_tokens=65)
    with pytest.raises(SpeechkdError, match="leaves no room beside 2"):
        load_text_teacher(str(folder), max_tokens=2)
    with pytest.raises(SpeechkdError, match="has 2 layers"):
        load_text_teacher(str(folder), layer=3, max_tokens=32)
    config = transformers.T5Config(
        vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(SpeechkdError, match="encoder with a decoder"):
        load_text_teacher(str(tmp_path / "t5"))


def test_a_teacher_cannot_train(folder):
    teacher = load_text_teacher(str(folder), max_tokens=32)
    assert not any(module.training for module in teacher.model.modules())
    assert not states(teacher, TEXTS)[0].requires_grad
