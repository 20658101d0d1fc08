"""What a run was trained on is told again from its record, as `distill` itself divides a cache."""

import json

import pytest

from pipeline.corpus.corpus import read_corpus
from pipeline.models.loading import load_tokenizer
from pipeline.tasks.hearing.clips import read_clips
from pipeline.tasks.hearing.trainings import TrainingReader, read_training
from tests.helpers.encoders import save_encoder
from tests.helpers.hearing import speech, vector_cache, word_cache


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainings")
    one = speech()
    one.texts[7] = "…"  # of which the tokenizer makes no word
    one.recordings[30:40] = [None] * 10
    vector_cache(folder / "cache", one)
    save_encoder(folder / "encoder", one.texts)
    return folder, vector_cache(folder / "cache", one), load_tokenizer(str(folder / "encoder"))


@pytest.mark.parametrize(("share", "seed"), [(0.3, 0), (0.3, 5), (0.01, 1), (0.0, 0)])
def test_the_clips_that_were_read_are_those_of_a_run(here, tmp_path, share, seed):
    _, cache, tokenizer = here
    corpus = read_corpus(
        cache, tokenizer, max_tokens=32, held_out_share=share, seed=seed, prepared=tmp_path
    )
    clips = read_clips(cache)  # in the order of the rows, as places are
    training = read_training(cache, tokenizer, 32, share, seed)
    places = corpus.place_C[corpus.train].tolist()
    assert training.read == {clips[place].said for place in places}
    assert training.recordings == {clips[place].recording for place in places} - {None}
    assert training.speakers == {clips[place].speaker for place in places}
    assert (training.clips, training.trained) == (len(corpus), len(corpus.train))
    if share:
        assert training.trained < training.clips


def save_run(folder, one, cache, *, settings=(), data=(), name="run"):
    """A run's folder as `distill` leaves it, as far as its training is told."""
    run = folder / name
    save_encoder(run / "student", one.texts)
    training = read_training(cache, load_tokenizer(str(run / "student")), 32, 0.3, 4)
    record = {
        "settings": {"held_out": 0.3, "seed": 4, "max_tokens": 32, "init": None, **dict(settings)},
        "data": {
            "cache": cache.location,
            "cache_sha256": cache.digest(),
            "clips": training.clips,
            "train_clips": training.trained,
            **dict(data),
        },
    }
    (run / "run.json").write_text(json.dumps(record))
    return str(run), training


def told(run, *here):
    return TrainingReader(here).read({"x": run}, {"x": load_tokenizer(f"{run}/student")})


def test_a_run_is_read_from_its_record(tmp_path):
    cache = vector_cache(tmp_path / "cache", speech())
    run, training = save_run(tmp_path, speech(), cache)
    result = told(run, cache)
    assert result.of["x"] == [training]
    assert not result.unchecked


def test_texts_without_speech_are_no_clips_that_were_heard(tmp_path):
    """The base of texts alone heard nothing; a run of both heard what one without texts hears."""
    cache = vector_cache(tmp_path / "cache", speech())
    _, training = save_run(tmp_path, speech(), cache)
    counts = {"clips": training.clips + 9, "train_clips": training.trained + 7}
    texts = {"texts": {"texts": 9, "train_texts": 7}}
    both, _ = save_run(tmp_path, speech(), cache, data={**counts, **texts}, name="both")
    assert told(both, cache).of["x"] == [training]
    record = json.loads((tmp_path / "both" / "run.json").read_text())
    del record["data"]["cache"], record["data"]["cache_sha256"]
    (tmp_path / "both" / "run.json").write_text(json.dumps(record))
    result = told(both, cache)
    assert (result.of["x"], result.unchecked) == ([], {})


def test_a_cache_that_has_moved_is_known_by_its_content(tmp_path):
    run, training = save_run(tmp_path, speech(), vector_cache(tmp_path / "cache", speech()))
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert "cannot be read" in told(run).unchecked["x"]
    moved = vector_cache(tmp_path / "moved", speech())
    assert told(run, moved).of["x"][0].read == training.read


def test_a_student_that_went_on_from_another_was_trained_on_both(tmp_path):
    first = vector_cache(tmp_path / "first", speech(name="first"))
    second = word_cache(tmp_path / "second", speech(name="second"))
    before, of_first = save_run(tmp_path, speech(), first, name="before")
    init = {"init": f"{before}/student"}
    run, of_second = save_run(tmp_path, speech(), second, settings=init.items(), name="after")
    assert told(run, first, second).of["x"] == [of_second, of_first]


@pytest.mark.parametrize(
    ("settings", "data", "why"),
    [
        ({}, {"cache_sha256": "0" * 64}, "has changed since"),
        ({}, {"cache": "nowhere", "cache_sha256": "0" * 64}, "cannot be read"),
        ({}, {"train_clips": 3}, "run.json says 3 of 120 clips, and"),
        ({"seed": None}, {}, "does not say which cache"),
        ({}, {"clips": "many"}, "does not say which cache"),
        ({"init": "nowhere/student"}, {}, None),
        ({"init": "/nowhere/student"}, {}, "there is no such folder"),
    ],
)
def test_what_cannot_be_told_is_said_and_not_guessed(tmp_path, settings, data, why):
    cache = vector_cache(tmp_path / "cache", speech())
    run, _ = save_run(tmp_path, speech(), cache, settings=settings.items(), data=data.items())
    result = told(run, cache)
    assert (why in result.unchecked["x"]) if why else not result.unchecked


def test_an_encoder_of_no_run_was_trained_on_nothing_here(tmp_path):
    folder = save_encoder(tmp_path / "student", speech().texts)
    result = TrainingReader([]).read({"x": str(folder)}, {"x": load_tokenizer(str(folder))})
    assert result.of == {"x": []}
    assert not result.unchecked
