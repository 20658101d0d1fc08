"""A letter and its accent as two characters are read as the one that tokenizers learnt."""

import unicodedata

import pytest

from pipeline.corpus.prepared import Prepared
from pipeline.corpus.tokenization import Encoding, train_byte_pairs, train_wordpiece
from pipeline.extraction.text_teacher import load_text_teacher
from pipeline.extraction.transcripts import TranscriptReader
from pipeline.finetuning.inputs import TextInputs
from pipeline.models.encoders import load_masked_lm
from pipeline.models.student import build_student
from pipeline.models.unknown import measure_unknown
from pipeline.tasks.minimal_pairs import log_likelihoods
from tests.helpers.cells import RECIPE
from tests.helpers.whispers import small_tokenizer
from tests.helpers.word_caches import make_word_cache

TEXTS = ["où est le café à la crème", "Füße über Öl", "がぎぐ げご", "한국어 말", "plain words"]
APART = [unicodedata.normalize("NFD", text) for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = train_wordpiece(lambda: TEXTS, 300, lowercase=True, max_tokens=64)
    folder = tmp_path_factory.mktemp("lm")
    tokenizer.save_pretrained(folder)
    build_student("bert-tiny", tokenizer, 64).save(folder)
    return folder


def test_a_wordpiece_of_decomposed_texts_is_that_of_composed_ones():
    assert APART != TEXTS
    one, other = (
        train_wordpiece(lambda texts=texts: texts, 300, lowercase=True, max_tokens=64)
        for texts in (TEXTS, APART)
    )
    assert one.get_vocab() == other.get_vocab()


def test_byte_pairs_compose_by_themselves():
    tokenizer = train_byte_pairs(lambda: TEXTS, 400, lowercase=False, max_tokens=64)
    assert tokenizer(APART)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_tokens_vectors_and_likelihoods_are_those_of_composed_texts(folder):
    _, student, tokenizer = load_masked_lm(str(folder))
    assert tokenizer(APART)["input_ids"] != tokenizer(TEXTS)["input_ids"]
    encode = Encoding(tokenizer, 64)
    assert encode(APART).ids_N.tolist() == encode(TEXTS).ids_N.tolist()
    for apart, together in zip(encode.spans(APART), encode.spans(TEXTS), strict=True):
        assert apart.tolist() == together.tolist()
    assert measure_unknown(tokenizer, APART) == measure_unknown(tokenizer, TEXTS)
    assert not measure_unknown(tokenizer, APART).unknown
    assert log_likelihoods(student, tokenizer, APART) == log_likelihoods(student, tokenizer, TEXTS)
    teacher = load_text_teacher(str(folder), lowercase=True, max_tokens=64)
    assert teacher.tokens_of(APART) == teacher.tokens_of(TEXTS)
    one, other = (
        TextInputs.of(texts, RECIPE, student.encoder, tokenizer) for texts in (TEXTS, APART)
    )
    assert [row.tolist() for row in one.ids] == [row.tolist() for row in other.ids]
    assert one.unknown == other.unknown


def test_words_of_decomposed_texts_have_their_tokens(tmp_path, folder):
    _, _, tokenizer = load_masked_lm(str(folder))
    stores = []
    for number, texts in enumerate((TEXTS, APART)):
        clips = [(text, text.split(), "1" * len(text.split())) for text in texts]
        cache = make_word_cache(tmp_path / str(number), clips, width=4)
        stores.append(Prepared(cache).words(tokenizer, 64))
    one, other = stores
    for name in ("counts", "firsts", "tokens", "rows", "types"):
        assert one.map(name).numpy().tolist() == other.map(name).numpy().tolist()
    assert other.facts["taught"] == sum(len(text.split()) for text in TEXTS)


def test_whispers_decoder_reads_composed_texts():
    reader = TranscriptReader(small_tokenizer(), True, "en", 448, "t")
    for apart, together in zip(APART, TEXTS, strict=True):
        assert reader.read(apart) == reader.read(together)


def test_words_too_long_for_wordpiece_are_counted_with_a_cure(folder):
    _, _, tokenizer = load_masked_lm(str(folder))
    unknown = measure_unknown(tokenizer, ["plain", "p" * 101, "é" * 100, "plain " + "l" * 300])
    assert unknown.too_long == 2
    assert "2 of the unknown have over 100 letters without a blank" in str(unknown)
    assert f"'{'l' * 40}…'" in str(unknown)
    assert type(unknown).of_record(unknown.record()) == unknown
