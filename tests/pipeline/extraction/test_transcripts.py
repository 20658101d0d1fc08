"""Texts become tokens and words as in openai-whisper; what cannot be read is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper import tokenization_whisper as hugging_face

from pipeline.extraction.transcripts import TranscriptReader, is_spoken, read_tokenizer
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.shards.refusals import RefusedError
from pipeline.shards.words import spelling
from tests.helpers.whispers import SPECIAL_TOKENS, small_tokenizer

TEXTS = [
    "Hello, my friends — how are you?",
    'He said: "no (not yet)!" and left...',
    "well-known co-op, 3.5 % of $20",
    "don't stop; 'twas naïve – ok?!",
    "Füße über Öl",
    "Привет, мир!",
    "你好,世界。再见",
    "नमस्ते दुनिया",
    "a 😀 b",
    "x",
]


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


class Decoding:
    """What Hugging Face's grouping needs of a tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer, self.eos_token_id = tokenizer, tokenizer.token_to_id("<|endoftext|>")

    def decode(self, tokens, decode_with_timestamps):  # noqa: ARG002
        return self.tokenizer.decode(tokens, skip_special_tokens=False)


def hugging_faces_words(tokenizer, tokens, language):
    words, _, _ = hugging_face._combine_tokens_into_words(Decoding(tokenizer), tokens, language)
    return [word.strip() for word in words if is_spoken(word)]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("language", "name"), [("en", "english"), ("zh", "chinese")])
def test_words_are_those_of_hugging_faces_grouping(tokenizer, text, language, name):
    transcript = TranscriptReader(tokenizer, True, language, 448, "t").read(text)
    tokens = transcript.tokens[transcript.prompt : -1]
    expected = hugging_faces_words(tokenizer, tokens, name)
    assert [word for word, _ in transcript.words] == expected
    assert sum(group.tokens for group in transcript.groups) == len(tokens)


def test_the_prompt_names_the_language_of_a_multilingual_teacher(tokenizer):
    ids = [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
    end, start, english, chinese, transcribe, no_times = ids
    several = TranscriptReader(tokenizer, True, "zh", 448, "t").read("好")
    assert several.tokens[:4] == [start, chinese, transcribe, no_times]
    assert several.tokens[-1] == end
    assert several.prompt == 4
    one = TranscriptReader(tokenizer, False, "en", 448, "t").read("yes")
    assert one.tokens[:2] == [start, no_times]
    assert english not in one.tokens


def test_capitals_alone_are_read_in_small_letters(tokenizer):
    reader = TranscriptReader(tokenizer, False, "en", 448, "t")
    loud, quiet = reader.read("THE CAT"), reader.read("the cat")
    assert loud.tokens == quiet.tokens
    assert [word for word, _ in loud.words] == ["THE", "CAT"]
    for text in ("I", "The CAT", "İX"):  # the last one would grow
        assert reader.read(text).tokens != reader.read(text.lower()).tokens


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("...", "no word"),
        ("– !", "no word"),
        ("word " * 444, "unusable words"),
        ("stop <|endoftext|> it", "unusable text"),
        ("<|nothing|>", None),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(tokenizer, text, reason):
    reader = TranscriptReader(tokenizer, False, "en", 448, "t")
    if reason is None:
        assert reader.read(text).words
        return
    with pytest.raises(RefusedError) as refused:
        reader.read(text)
    assert refused.value.reason == reason


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40), st.sampled_from(["en", "zh"])
)
def test_words_spell_the_text_whatever_it_is(text, language):
    reader = TranscriptReader(small_tokenizer(), True, language, 448, "t")
    try:
        transcript = reader.read(text)
    except RefusedError:
        return
    assert spelling("".join(word for word, _ in transcript.words)) == spelling(text)
    places = [place for _, place in transcript.words]
    assert places == sorted(set(places))


def test_an_english_teacher_reads_no_other_language(tokenizer):
    with pytest.raises(SpeechkdError, match="--language de: t knows English only"):
        TranscriptReader(tokenizer, False, "de", 448, "t")


def test_a_language_that_the_teacher_lacks_is_named(tokenizer):
    with pytest.raises(SpeechkdError, match=r"no <\|xx\|>"):
        TranscriptReader(tokenizer, True, "xx", 448, "t")


def test_a_tokenizer_is_read_from_either_form(tokenizer, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tokenizer.save(str(tmp_path / "a" / "tokenizer.json"))
    tokenizer.model.save(str(tmp_path / "b"))
    whole, parts = read_tokenizer(tmp_path / "a"), read_tokenizer(tmp_path / "b")
    for text in TEXTS:
        assert whole.encode(text).ids == parts.encode(text).ids == tokenizer.encode(text).ids


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path):
    with pytest.raises(NotThere, match=r"no tokenizer\.json"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(Damaged, match="tokenizer cannot be read"):
        read_tokenizer(tmp_path)
