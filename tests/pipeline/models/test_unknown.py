"""What a tokenizer does not know is counted, named, and told by script."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from pipeline.models.unknown import (
    LETTERS_AT_LEAST,
    LOOKED_AT,
    Unknown,
    UnknownCounter,
    measure_unknown,
    script_of,
)

END = "<s>"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly", "क", "##ा", "か"]


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(vocab={p: i for i, p in enumerate(PIECES)}, strip_accents=False)


def test_tokens_texts_and_the_commonest_are_counted(tokenizer):
    texts = ["good bad", "good, bad!", "badly!", "ugly"]
    unknown = measure_unknown(tokenizer, texts)
    assert (unknown.tokens, unknown.unknown) == (10, 4)
    assert (unknown.texts, unknown.texts_with) == (4, 3)
    assert unknown.commonest == ("!", ",", "ugly")
    assert unknown.too_many
    assert str(unknown) == (
        "40.0 % of the tokens (4 of 10) are unknown, in 75.0 % of the texts; most often '!', ',', "
        "'ugly'; of the letters of LATIN 17.4 %"
    )


def test_nothing_unknown_is_said_in_five_words(tokenizer):
    unknown = measure_unknown(tokenizer, ["good bad"])
    assert str(unknown) == "no token is unknown"
    assert not unknown.too_many
    assert str(measure_unknown(tokenizer, [])) == "no token is unknown"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("good bdly!?काか", max_size=12), min_size=1, max_size=6))
def test_counts_are_those_of_a_loop_over_tokens(texts):
    tokenizer = BertTokenizer(vocab={p: i for i, p in enumerate(PIECES)}, strip_accents=False)
    tokens = [tokenizer.tokenize(text) for text in texts]
    unknown = measure_unknown(tokenizer, texts)
    assert unknown.tokens == sum(map(len, tokens))
    assert unknown.unknown == sum(row.count("[UNK]") for row in tokens)
    assert unknown.texts_with == sum("[UNK]" in row for row in tokens)


def test_a_script_is_told_even_if_few_tokens_are_of_it(tokenizer):
    texts = ["good " * 100] * 50 + ["देवनागरी"] * 10
    unknown = measure_unknown(tokenizer, texts)
    assert unknown.share < 0.01
    assert unknown.scripts == {"DEVANAGARI": 1.0}
    assert unknown.too_many
    assert "of the letters of DEVANAGARI 100.0 %" in str(unknown)


def test_a_handful_of_foreign_letters_is_no_script(tokenizer):
    few = "д" * (LETTERS_AT_LEAST - 1)
    assert measure_unknown(tokenizer, ["good " * 100] * 50 + [few]).scripts == {}


def test_special_tokens_of_texts_do_not_count(tokenizer):
    rows = tokenizer(["good", "ugly bad"])["input_ids"]
    counter = UnknownCounter(tokenizer)
    counter.add(["good", "ugly bad"], np.concatenate(rows), np.array([3, 4]), special=2)
    assert (counter.result().tokens, counter.result().unknown) == (3, 1)


def test_a_token_that_ends_texts_too_is_not_taken_for_unknown():
    model = Tokenizer(models.WordLevel({END: 0, "good": 1}, unk_token=END))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token=END, eos_token=END)
    assert measure_unknown(tokenizer, ["good ugly"]).unknown == 0


def test_a_tokenizer_without_an_unknown_token_knows_all():
    model = Tokenizer(models.WordLevel({"good": 0, END: 1}, unk_token=END))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    assert measure_unknown(tokenizer, ["good ugly"]).unknown == 0


def test_names_come_from_the_first_texts_and_counts_from_all(tokenizer):
    counter = UnknownCounter(tokenizer)
    for text in ("!", "?"):
        texts = [text] * LOOKED_AT
        counter.add(texts, np.full(LOOKED_AT, 1), np.ones(LOOKED_AT, np.int64), 0)
    assert counter.result().commonest == ("!",)
    assert counter.result().unknown == 2 * LOOKED_AT


@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("मैं हिंदी बोलता हूँ", 5 / 9),  # vowel signs that stand in a place of their own stay
        ("がぎぐ", 1),
        ("กิน น้ำ", 2 / 2),
        ("marché pâté", 0),  # accents: that is what uncased tokenizers are made for
        ("plain", 0),
    ],
)
def test_signs_that_a_tokenizer_drops_are_told(text, lost, strip):
    vocabulary = {piece: i for i, piece in enumerate([*PIECES[:5], "x"])}
    unknown = measure_unknown(BertTokenizer(vocab=vocabulary, strip_accents=strip), [text])
    assert unknown.lost_signs == pytest.approx(lost if strip else 0)
    assert ("vowel signs are dropped unread" in str(unknown)) == bool(strip and lost)


def test_a_tokenizer_that_knows_all_words_but_drops_signs_is_warned_of():
    vocabulary = {piece: i for i, piece in enumerate([*PIECES[:5], "हद"])}
    unknown = measure_unknown(BertTokenizer(vocab=vocabulary), ["हुद"])
    assert str(unknown) == "no token is unknown; 100.0 % of the vowel signs are dropped unread"
    assert unknown.too_many


def test_the_record_gives_it_back(tokenizer):
    unknown = measure_unknown(tokenizer, ["ugly " * 30])
    assert unknown.scripts
    assert Unknown.of_record(unknown.record()) == unknown


def test_scripts_are_unicodes_own():
    scripts = {c: script_of(c) for c in "aéह\u093fが\u3099あ你д1!"}
    assert scripts == {
        "a": "LATIN", "é": "LATIN", "ह": "DEVANAGARI", "\u093f": "DEVANAGARI", "が": "HIRAGANA",
        "\u3099": "COMBINING", "あ": "HIRAGANA", "你": "CJK", "д": "CYRILLIC", "1": "", "!": "",
    }  # fmt: skip
