"""Words with their tokens and rows, and why some are left out: counted one by one."""

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from pipeline.cache.sequences import SequenceReader
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.word_spans import spelled
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.caches import wordpiece
from tests.helpers.word_caches import make_word_cache

CLIPS = [
    ("The cat sat, far away.", ["The", "cat", "sat,", "far", "away."], "11011"),
    ("the dog — ran", ["the", "dog", "—", "ran"], "1111"),
    ("a cat", ["a", "dog"], "11"),
    ("one two three four five six seven eight nine", None, "111111111"),
    ("hm", ["hm"], "0"),
]
MAX_TOKENS = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    cache = make_word_cache(tmp_path_factory.mktemp("words") / "cache", CLIPS, width=4)
    tokenizer = wordpiece(cache)
    return cache, tokenizer, Prepared(cache).words(tokenizer, MAX_TOKENS)


def column(store, name):
    return store.map(name).numpy()


def expected(cache, tokenizer):
    """The words to teach, by the tokenizer's own account of which characters a token covers."""
    per_clip = []
    for sample in (s for shard in cache.receipts() for s in cache.shard_samples(shard)):
        encoded = tokenizer(sample["text"], return_offsets_mapping=True)
        words, at = [], 0
        if spelled("".join(w["text"] for w in sample["words"]))[0] == spelled(sample["text"])[0]:
            for number, word in enumerate(sample["words"]):
                letters = spelled(word["text"])[0]
                if not letters:
                    continue
                begin = sample["text"].lower().index(letters, at)
                at = begin + len(letters)
                tokens = [
                    place
                    for place, (start, end) in enumerate(encoded["offset_mapping"])
                    if start < end and start < at and end > begin
                ]
                if word["trusted"] and tokens[-1] < MAX_TOKENS - 1:
                    words.append((tokens[0], len(tokens), sample["row"] + number, letters))
        per_clip.append(words)
    return per_clip


def test_words_have_the_tokens_that_cover_them_and_rows_of_their_own(made):
    cache, tokenizer, store = made
    wanted = expected(cache, tokenizer)
    assert column(store, "counts").tolist() == [len(words) for words in wanted]
    flat = [word for words in wanted for word in words]
    for place, name in enumerate(("firsts", "tokens", "rows")):
        assert column(store, name).tolist() == [word[place] for word in flat]
    types = column(store, "types").tolist()
    number_of = {}
    assert types == [number_of.setdefault(word[3], len(number_of)) for word in flat]
    assert store.facts["types"] == len(number_of) < len(flat), "some words are there twice"


def test_what_is_left_out_is_counted(made):
    cache, tokenizer, store = made
    facts = store.facts
    words = SequenceReader(cache).clips.words
    assert facts["words"] == sum(map(len, words))
    assert facts["other_text"] == 1
    assert facts["untrusted"] == 2, "of the first clip and of the last"
    assert facts["without_token"] == 1, "the dash"
    left_out = ("untrusted", "without_token", "cut", "taught")
    assert sum(facts[name] for name in left_out) == facts["words"] - len(CLIPS[2][1])
    assert facts["cut"] > 0
    pieces = sum(min(len(tokenizer(text)["input_ids"]), MAX_TOKENS) - 2 for text, _, _ in CLIPS)
    assert facts["tokens_of_no_word"] + column(store, "tokens").sum() < pieces
    assert column(store, "seconds") == pytest.approx(np.full(facts["taught"], 0.5))


def test_words_that_spell_another_text_are_refused_if_they_are_many(tmp_path):
    cache = make_word_cache(tmp_path / "cache", [CLIPS[2], CLIPS[2], CLIPS[1]], width=2)
    with pytest.raises(SpeechkdError, match=r"words of 2 of 3 clips spell another text"):
        Prepared(cache).words(wordpiece(cache), 16)


def test_a_tokenizer_that_hides_its_spans_is_refused(tmp_path, monkeypatch):
    cache = make_word_cache(tmp_path / "cache", CLIPS, width=2)
    tokenizer = wordpiece(cache)
    prepared = Prepared(cache)
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda _: False))
    with pytest.raises(SpeechkdError, match="does not say which characters its tokens cover"):
        prepared.words(tokenizer, 16)
