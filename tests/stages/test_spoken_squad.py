"""Spoken SQuAD, as people have it: two JSONs and a wave per sentence become answers in seconds."""

import csv
import json

import numpy as np
import pytest
import soundfile

from pipeline.finetuning.audio_inputs import AudioClips
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from stages.extract_features import FeatureSettings
from stages.extract_features import run as extract
from stages.finetune_audio_spans import AudioSpansSettings
from stages.finetune_audio_spans import run as finetune
from stages.shard import ShardSettings
from stages.shard import run as shard
from stages.spoken_squad import QuestionsSettings, SentencesSettings, questions, sentences
from tests.helpers.caches import wordpiece
from tests.helpers.speech_runs import save_speech_run
from tests.helpers.word_caches import make_word_cache

WORD_S = 0.5
"""What each word lasts in the waves, as in the helper's cache of words."""


def asked(name, question, *answers):
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": question, "answers": listed}


def article(title, context, *qas):
    return {"title": title, "paragraphs": [{"context": context, "qas": list(qas)}]}


CONTEXT = "anna lives in rome. the golden age of rome"
TRAIN = [
    article(
        "Anna", CONTEXT,
        asked("1", "where does anna live", ("rome", 14), ("rome", 14), ("anna lives in", 0)),
        asked("2", "which age", ("gold", 24)),  # within a word
        asked("3", "of what", ("rome", 7)),  # several places, and the start is wrong
        asked("4", "over two sentences", ("rome. the", 14)),
        asked("5", "nowhere", ("paris", 3)),
    ),
    article("Ben", "ben eats.", asked("6", "what does ben do", ("eats", 99))),
    article("Dora", "dora sleeps. she dreams.", asked("8", "who sleeps", ("dora", 0))),
]  # fmt: skip
TEST = [article("Carl", "carl has a cat.", asked("7", "who has a cat", ("carl", 0)))]


@pytest.fixture
def dataset(tmp_path):
    """The layout: Dora lacks the wave of her second sentence."""
    rng = np.random.default_rng(0)
    for split, articles in (("train", TRAIN), ("test", TEST)):
        (tmp_path / f"spoken_{split}-v1.1.json").write_text(json.dumps({"data": articles}))
        waves = tmp_path / f"{split}_wav"
        waves.mkdir()
        for topic, one in enumerate(articles):
            pieces = [p.split() for p in one["paragraphs"][0]["context"].split(".") if p.split()]
            for number, words in enumerate(pieces):
                if (one["title"], number) != ("Dora", 1):
                    wave = rng.standard_normal(round(16_000 * WORD_S * len(words))) * 0.1
                    soundfile.write(waves / f"{topic}_0_{number}.wav", wave, 16_000)
    return tmp_path


def files(folder):
    return {
        "train": folder / "spoken_train-v1.1.json", "test": folder / "spoken_test-v1.1.json",
        "out": folder / "squad",
    }  # fmt: skip


def list_sentences(folder, **changes):
    waves = {"train_audio": folder / "train_wav", "test_audio": folder / "test_wav"}
    sentences(SentencesSettings(**{**files(folder), **waves, **changes}))


def test_sentences_are_listed_for_shards_and_for_passages(dataset, capsys):
    list_sentences(dataset)
    rows = list(csv.DictReader((dataset / "squad" / "sentences.csv").open()))
    assert [(row["key"], row["text"], row["recording"]) for row in rows] == [
        ("train/0_0_0", "anna lives in rome", "train/0_0"),
        ("train/0_0_1", "the golden age of rome", "train/0_0"),
        ("train/1_0_0", "ben eats", "train/1_0"),
        ("test/0_0_0", "carl has a cat", "test/0_0"),
    ]
    clips = list(csv.DictReader((dataset / "squad" / "passages.csv").open()))
    assert [tuple(row.values()) for row in clips] == [
        ("train/0_0", "train/0_0_0"), ("train/0_0", "train/0_0_1"), ("train/1_0", "train/1_0_0"),
        ("test/0_0", "test/0_0_0"),
    ]  # fmt: skip
    told = capsys.readouterr().out
    assert "train: 2 of 3 paragraphs have all of their sentences" in told
    assert "paragraphs whose waves are not as many as their sentences, left out: 1" in told


def make_caches(folder, trusted="1111"):
    list_sentences(folder)
    table = folder / "squad" / "sentences.csv"
    shard(ShardSettings(source=str(table), out=folder / "shards", workers=1))
    manifest = str(folder / "shards" / "manifest.jsonl")
    cache = str(folder / "mels")
    extract(FeatureSettings(manifest=manifest, features="whisper-mel", cache=cache, workers=0))
    rows = list(csv.DictReader(table.open()))
    clips = [(row["text"], None, "1" * len(row["text"].split())) for row in rows]
    clips[0] = (*clips[0][:2], trusted)
    make_word_cache(folder / "words", clips, keys=[row["key"] for row in rows])


def ask(folder, **changes):
    caches = {"cache": str(folder / "mels"), "words": str(folder / "words"), "validation": 0.1}
    questions(QuestionsSettings(**{**files(folder), **caches, **changes}))
    return list(csv.DictReader((folder / "squad" / "questions.csv").open()))


def test_answers_are_found_in_time_and_a_reader_is_asked(dataset, tmp_path, capsys):
    make_caches(dataset)
    capsys.readouterr()
    rows = ask(dataset)
    times = [(r["question_id"], float(r["answer_start_s"]), float(r["answer_end_s"])) for r in rows]
    assert times == [
        ("1", 1.5, 2.0), ("1", 0.0, 1.5), ("2", 2.5, 3.0), ("4", 1.5, 2.5), ("6", 0.5, 1.0),
        ("7", 0.0, 0.5),
    ]  # fmt: skip
    assert {r["split"] for r in rows} == {"train", "valid", "test"}
    assert len({r["split"] for r in rows if r["group"] == "Anna"}) == 1
    told = capsys.readouterr().out
    assert "train: 4 of 7 questions, 5 answers with their times" in told
    assert "text stands in several places, and answer_start names none in their" in told
    assert "answers whose text stands nowhere in their paragraph, left out: 1" in told
    assert "paragraphs with a sentence that the cache of frames lacks, left out: 1" in told
    assert "questions without an answer whose time is known, left out: 2" in told
    clips, tokenizer = AudioClips.open(str(dataset / "mels")), dataset / "tokenizer"
    wordpiece(clips.cache).save_pretrained(tokenizer)
    run = save_speech_run(dataset / "speech", clips, stack=4)
    squad = dataset / "squad"
    finetune(
        AudioSpansSettings(
            data=[str(squad / "questions.csv")], passages=squad / "passages.csv",
            cache=str(dataset / "mels"), checkpoint=[str(run)], out=tmp_path / "results",
            tokenizer=str(tokenizer), seeds="0", epochs=1, layers=1, device="cpu",
        )
    )  # fmt: skip
    (cell,) = map(json.loads, (tmp_path / "results" / "results.jsonl").read_text().splitlines())
    assert cell["splits"]["test"] == 1
    assert cell["metrics"]["whole"]["aos"] == pytest.approx(0.5 / 2.0)
    assert cell["metrics"]["ceiling"] > 0.9


def test_words_without_a_trusted_time_end_no_answer(dataset, capsys):
    make_caches(dataset, trusted="1110")
    capsys.readouterr()
    rows = ask(dataset)
    assert [row["question_id"] for row in rows if row["group"] == "Anna"] == ["1", "2"]
    told = capsys.readouterr().out
    assert "begin or end with a word whose time is not trusted, left out: 3" in told


def test_other_words_and_missing_sentences_are_told_apart(dataset, capsys):
    make_caches(dataset)
    capsys.readouterr()
    words = [("anna lives in rome", None, "1111"), ("another text here is", None, "1111"),
             ("ben eats", None, "11")]  # fmt: skip
    keys = ["train/0_0_0", "train/0_0_1", "train/1_0_0"]
    make_word_cache(dataset / "others", words, keys=keys)
    ask(dataset, words=str(dataset / "others"))
    told = capsys.readouterr().out
    assert "answers in a sentence whose words are others in the cache, left out: 2" in told
    assert "answers in a sentence whose words have no times, left out: 1" in told


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("[]", "not in the form of SQuAD 1.1"),
        ('{"data": [{"title": "x", "paragraphs": [{"qas": []}]}]}', "context"),
        (json.dumps({"data": [article("x", "a.", asked("1", None))]}), "is not text"),
        (json.dumps({"data": [article("x", "a.", asked("1", "q", ("a", "0")))]}), "an answer of"),
        (json.dumps({"data": [article("x", "a.", asked("1", "q"), asked("1", "q"))]}), "twice"),
        ("{", "not in the form"),
    ],
)
def test_what_is_no_squad_is_an_error_that_says_so(dataset, content, wanted):
    (dataset / "spoken_test-v1.1.json").write_text(content)
    with pytest.raises(Damaged, match=wanted):
        list_sentences(dataset)


def test_files_that_are_missing_or_in_both_splits_are_refused(dataset):
    with pytest.raises(NotThere, match=r"no wave called TOPIC_PARAGRAPH_SENTENCE.wav"):
        list_sentences(dataset, train_audio=dataset / "squad")
    with pytest.raises(NotThere, match="there is no such file"):
        list_sentences(dataset, train=dataset / "no.json")
    with pytest.raises(SpeechkdError, match="article Carl is both in training and in the test"):
        list_sentences(dataset, train=dataset / "spoken_test-v1.1.json")
    with pytest.raises(SpeechkdError, match="--train and --train-audio belong together"):
        SentencesSettings(train=dataset / "x.json", out=dataset)
    with pytest.raises(SpeechkdError, match="have the same names"):
        list_sentences(dataset, test_audio=dataset / "train_wav")
    with pytest.raises(SpeechkdError, match=r"test_wav/0_0_0.wav and .*train_wav/0_0_0.wav are"):
        list_sentences(dataset, train_audio=dataset)
    with pytest.raises(SpeechkdError, match="name a JSON"):
        SentencesSettings(out=dataset)
