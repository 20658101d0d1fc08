"""A trained tokenizer repeats itself, loads elsewhere, and encodes as its own library does."""

import pytest
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.corpus.tokenization import Encoding, train_byte_pairs, train_wordpiece
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.texts import composed

TEXTS = ["The cat sat on the mat", "a dog RAN under the mat", "é – 你好 ok"] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(lambda: TEXTS, 120, lowercase=True, max_tokens=16)


def test_training_is_the_same_each_time():
    """Many pairs that are equally frequent, so that every tie has to be broken the same way."""
    texts = ["".join(chr(97 + (i * j) % 26) for j in range(2, 9)) for i in range(300)]
    first = train_wordpiece(lambda: texts, 200, lowercase=True, max_tokens=16).get_vocab()
    assert len(first) == 200
    for _ in range(5):
        assert (
            train_wordpiece(lambda: iter(texts), 200, lowercase=True, max_tokens=16).get_vocab()
            == first
        )


@pytest.mark.parametrize("pieces", range(4))
def test_pieces_are_those_that_the_trainer_finds(pieces):
    """Numbering the letters first changes which numbers pieces have, not which pieces there are.

    No two pairs are equally frequent here: among such ones the library's own trainer chooses
    differently from run to run, and so is no reference.
    """
    texts = ["ab"] * 5 + ["abc"] * 3 + ["de"] * 2
    size = 5 + 8 + pieces  # special tokens, five letters, and the three that stand inside words
    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(texts, vocab_size=size, min_frequency=0, show_progress=False)
    ours = train_wordpiece(lambda: texts, size, lowercase=True, max_tokens=16)
    assert set(trained.get_vocab()) == set(ours.get_vocab())
    assert {"ab", "abc", "de"} & set(ours.get_vocab()) == set(["ab", "abc", "de"][:pieces])


def test_saved_tokenizer_loads_with_auto_tokenizer_and_reads_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "", "unseen zzz Cat"]:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.model_max_length == 16
    assert loaded.mask_token_id == tokenizer.mask_token_id == 4


def test_case_is_kept_or_dropped():
    for lowercase in (True, False):
        made = train_wordpiece(lambda: TEXTS, 120, lowercase=lowercase, max_tokens=16)
        assert (made("CAT")["input_ids"] == made("cat")["input_ids"]) == lowercase


@pytest.mark.parametrize("lowercase", [True, False])
def test_vowel_signs_dakuten_and_accents_stay(lowercase, tmp_path):
    pairs = [("हिंदी", "हद"), ("がぎ", "かき"), ("か\u3099", "か"), ("pâté", "pate"), ("กิน", "กน")]
    texts = [word for pair in pairs for word in pair] * 3
    made = train_wordpiece(lambda: texts, 300, lowercase=lowercase, max_tokens=16)
    made.save_pretrained(tmp_path)
    for tokenizer in (made, AutoTokenizer.from_pretrained(tmp_path)):
        for one, other in pairs:
            assert tokenizer(one)["input_ids"] != tokenizer(other)["input_ids"]
        for word in map(composed, texts):
            assert tokenizer.unk_token_id not in tokenizer(word)["input_ids"]
            assert "".join(tokenizer.tokenize(word)).replace("##", "") == word


def test_every_letter_gets_a_piece():
    letters = [chr(0x4E00 + i) for i in range(3000)]
    texts = ["".join(letters[i : i + 30]) for i in range(0, 3000, 30)]
    made = train_wordpiece(lambda: texts, 30522, lowercase=True, max_tokens=16)
    for text in texts:
        assert made.tokenize(text) == list(text)


def test_the_rarest_letters_give_way_where_not_all_fit():
    texts = ["你"] * 9 + ["好"] * 9 + ["你好 你"] * 9 + ["吗"]
    made = train_wordpiece(lambda: texts, 7, lowercase=True, max_tokens=16)
    assert len(made) == 7
    unknown = [c for c in "你好吗" if made.tokenize(c) == ["[UNK]"]]
    assert len(unknown) == 1


def test_vocabulary_is_at_most_what_was_asked_for(tokenizer):
    assert len(tokenizer) <= 120
    assert len(train_wordpiece(lambda: TEXTS, 40, lowercase=True, max_tokens=16)) == 40


def test_encoding_is_the_tokenizers_own_truncation(tokenizer):
    encode = Encoding(tokenizer, 7)
    texts = [*TEXTS, "", "the " * 50]
    got = encode(texts)
    wanted = tokenizer(texts, truncation=True, max_length=7)["input_ids"]
    assert got.ids_N.tolist() == [i for ids in wanted for i in ids]
    assert got.lengths_B.tolist() == [len(ids) for ids in wanted]
    assert got.truncated == sum(len(tokenizer(t)["input_ids"]) > 7 for t in texts)
    assert len(encode([]).ids_N) == 0


def test_a_tokenizer_saved_while_cutting_and_padding_does_neither_here(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    loaded.backend_tokenizer.enable_truncation(3)
    loaded.backend_tokenizer.enable_padding(length=30)
    assert Encoding(loaded, 7)(TEXTS).ids_N.tolist() == Encoding(tokenizer, 7)(TEXTS).ids_N.tolist()


def test_tokenizer_without_mask_token_is_refused(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)
    with pytest.raises(SpeechkdError, match="no mask token"):
        Encoding(bare, 16)


def test_no_room_for_text_is_refused(tokenizer):
    with pytest.raises(SpeechkdError, match="no room"):
        Encoding(tokenizer, 2)


SPOKEN = ["the cat sat on the mat", "a dog ran under the mat", "é – 你好 ok", "the the cat"] * 5


def test_byte_pairs_are_those_of_the_librarys_own_byte_level_bpe(tmp_path):
    own = train_byte_pairs(lambda: SPOKEN, 320, lowercase=True, max_tokens=16)
    reference = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    reference.train_from_iterator(
        SPOKEN, vocab_size=320, min_frequency=0, special_tokens=special, show_progress=False
    )
    own.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in SPOKEN:
        pieces = reference.encode(text).tokens
        assert again.convert_ids_to_tokens(again(text)["input_ids"]) == ["<s>", *pieces, "</s>"]
        assert again.decode(again(text, add_special_tokens=False)["input_ids"]) == text
    assert [again.convert_tokens_to_ids(token) for token in special] == [0, 1, 2, 3, 4]
    assert again.mask_token_id == 4


def test_byte_pairs_know_neither_case_nor_blanks_nor_an_order_of_their_own():
    first = train_byte_pairs(lambda: SPOKEN, 320, lowercase=True, max_tokens=16)
    for _ in range(3):
        other = train_byte_pairs(lambda: iter(SPOKEN), 320, lowercase=True, max_tokens=16)
        assert other.get_vocab() == first.get_vocab()
    assert first("  THE   Cat\nSAT ")["input_ids"] == first("the cat sat")["input_ids"]
    cased = train_byte_pairs(lambda: SPOKEN, 320, lowercase=False, max_tokens=16)
    assert cased("THE")["input_ids"] != cased("the")["input_ids"]
    assert Encoding(first, 16)(["", "the cat"]).lengths_B.tolist()[0] == 2
