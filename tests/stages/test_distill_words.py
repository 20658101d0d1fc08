"""`speechkd distill --level word` as a user meets it: what is taught, counted, refused, resumed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.distillation.preflight import word_bytes
from pipeline.foundation.errors import SpeechkdError
from stages.distill import DistillSettings, run
from tests.helpers.caches import identity, make_sequence_cache, manifest, shard_result
from tests.helpers.word_caches import make_word_cache

SHARDS = [40, 20]


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    vectors = TeacherCache.create_or_open(folder / "vectors", manifest(SHARDS), identity(), {})
    for shard, samples in enumerate(SHARDS):
        result = shard_result(samples, 1, shard)  # of the same texts as the words
        noise = np.random.default_rng(shard).standard_normal((samples, 8)).astype(np.float32)
        write_vectors(vectors, shard, replace(result, vectors_NE=noise), {})
    make_sequence_cache(
        folder / "words", SHARDS, "words", most_rows=40, teacher="made-up", teacher_sha256="0" * 64
    )
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A configuration that trains in milliseconds."""
    folder = tmp_path_factory.mktemp("tiny")
    BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    ).save_pretrained(folder)
    return str(folder / "config.json")


@pytest.fixture
def settings(caches, tiny, tmp_path):
    def make(cache="words", **changes):
        options = {
            "cache": str(caches / cache), "out": tmp_path / "run", "kd": ["crd"], "student": tiny,
            "epochs": 2.0, "batch": 16, "vocab_size": 200, "held_out": 0.1, "log_every": 1,
            "measure_every": 1, "learning_rate": 1e-3, "device": "cpu", "checkpoint_minutes": 0.0,
            "level": "word",
        }  # fmt: skip
        return DistillSettings(**{**options, **changes})

    return make


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return [
        {k: v for k, v in line.items() if k.startswith(("loss", "gradient", "cosine"))}
        for line in lines(folder)
        if "loss/mlm" in line
    ]


def same_weights(one, other):
    first, second = (load_file(f / "student" / "model.safetensors") for f in (one, other))
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kd": ["infonce", "l1", "cosine"], "word_tokens": "mean", "gamma": [1.0, 0.5, 2.0]},
        {"kd": ["nst"], "nst_pattern": "sequence", "teacher_side": "within-word"},
        {"kd": ["crd", "nst"], "crd_negatives": 30, "teacher_side": "within-speaker"},
        {"control": "shuffled"},
        {"control": "shuffled-words"},
        {"control": "random", "crd_symmetric": True, "same_word_negatives": True},
    ],
    ids=str,
)
def test_words_are_taught_and_the_record_says_so(settings, changes, capsys):
    run(settings(**changes))
    out = settings().out
    logged = [line for line in lines(out) if "loss/mlm" in line]
    names = {f"word_{kd}" for kd in changes.get("kd", ["crd"])}
    for name in names:
        assert all(line[f"loss/{name}"] > 0 for line in logged)
        assert logged[-1]["gradient/kd"] > 0
    assert all(line["waited_s"] >= 0 for line in logged)
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["level"] == "word"
    assert set(record["gammas"]) == names
    told = record["data"]["words"]
    assert told["taught"] == told["words"] > 300
    assert f"{told['taught']:,} of {told['words']:,} words" in capsys.readouterr().err
    card = (out / "README.md").read_text()
    assert "word by word" in card
    assert ("This is a control" in card) == ("control" in changes)


def test_clips_and_words_each_have_their_own_weight(settings, caches, capsys):
    given = settings(
        "vectors", words=str(caches / "words"), level="clip+word", gamma=[2.0], word_gamma=[0.5]
    )
    run(given)
    record = json.loads((given.out / "run.json").read_text())
    assert record["gammas"] == {"crd": 2.0, "word_crd": 0.5}
    for line in losses(given.out):
        assert line["loss/kd_weighted"] == pytest.approx(
            2 * line["loss/crd"] + 0.5 * line["loss/word_crd"], rel=1e-5
        )
        assert line["loss"] == pytest.approx(line["loss/mlm"] + line["loss/kd_weighted"], rel=1e-5)
    assert record["identity"]["words_sha256"] != record["identity"]["cache_sha256"]


@pytest.mark.parametrize("kd", [["crd"], ["nst"]])
def test_a_stop_between_changes_nothing_bit_for_bit(settings, tmp_path, kd):
    changes = {"kd": kd, "crd_negatives": 20 if kd == ["crd"] else 0}
    run(settings(out=tmp_path / "whole", **changes))
    for stop in (2, 3, 0):
        run(settings(out=tmp_path / "parted", max_steps=stop, **changes))
    assert losses(tmp_path / "parted") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "parted", tmp_path / "whole")


def test_an_own_cache_and_a_joined_one_teach_the_same(settings, caches, tmp_path):
    run(settings(out=tmp_path / "own"))
    joined = settings("vectors", words=str(caches / "words"), out=tmp_path / "joined")
    run(joined)
    assert losses(tmp_path / "own") == losses(tmp_path / "joined")


def test_a_copy_on_this_machine_teaches_the_same_and_is_made_once(settings, tmp_path, capsys):
    run(settings(out=tmp_path / "there"))
    for name in ("here", "again"):
        run(settings(out=tmp_path / name, stage_to=tmp_path / "disk"))
        assert losses(tmp_path / name) == losses(tmp_path / "there")
    (copy,) = (tmp_path / "disk").glob("words-*")
    assert (copy / "zarr.json").exists()


def test_other_words_or_settings_are_refused(settings, caches, tmp_path):
    make_sequence_cache(tmp_path / "others", SHARDS, "words", most_rows=40, width=6)
    given = {"cache": "vectors", "level": "word"}
    run(settings(**given, words=str(caches / "words"), max_steps=1))
    with pytest.raises(SpeechkdError, match="other content of the words"):
        run(settings(**given, words=str(tmp_path / "others")))
    with pytest.raises(SpeechkdError, match=r"word_tokens: there 'first', now 'mean'"):
        run(settings(**given, words=str(caches / "words"), word_tokens="mean"))
    with pytest.raises(SpeechkdError, match=r"level: there 'word', now None"):
        run(settings(cache="vectors", level="clip"))


def test_a_run_by_clips_has_the_identity_that_it_had_before_there_were_words(settings):
    identity = settings("vectors", level="clip").identity()
    assert not {"level", "words", "word_gamma", "word_tokens", "same_word_negatives"} & set(
        identity
    )
    assert settings(kd=["none"]).identity().keys() == identity.keys()


def test_dry_run_says_what_would_be_taught_and_leaves_nothing(settings, capsys):
    run(settings(dry_run=True, teacher_side="within-speaker"))
    told = capsys.readouterr().err
    assert "0 tokens belong to no word" in told
    assert "the means of 3 speakers (or recordings) are taken away from words" in told
    assert "objective word_crd: γ 1, teacher side within-speaker" in told
    assert not settings().out.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cache": "vectors"}, r"of kind vector, and this needs one of kind words.*--keep"),
        (
            {"level": "clip"},
            r"of kind words: --level word teaches .* kind vector, which `speechkd extract-teacher`",
        ),
        ({"level": "clip+word"}, r"of kind words: .* --level clip\+word needs one of kind vector"),
        ({"cache": "vectors", "level": "clip+word"}, r"needs word vectors.*Name a cache of words"),
        ({"kd": ["nst"], "nst_pattern": "token"}, "token sees one number"),
        ({"level": "clip", "cache": "vectors", "control": "shuffled-words"}, "Use --control shuf"),
        ({"level": "clip", "cache": "vectors", "teacher_side": "within-word"}, "knows no words"),
        ({"word_gamma": [1.0, 2.0]}, "2 values, but --kd names 1"),
        ({"word_gamma": [-1.0]}, "--word-gamma is"),
    ],
    ids=str,
)
def test_wrong_input_is_named(settings, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        run(settings(**changes))
    assert not settings().out.exists()


def word_run(settings, tmp_path, clips, **changes):
    speakers = changes.pop("speakers", ["a", "b"] * len(clips))
    make_word_cache(tmp_path / "made", clips, width=6, speakers=speakers[: len(clips)])
    run(settings(cache=str(tmp_path / "made"), batch=4, held_out=0.0, **changes))


SENTENCES = [
    ("the cat sat far away", None, "11111"), ("a dog ran near the mill", None, "111111"),
    ("red lamps sang on", None, "1111"), ("the blue dog sat under it", None, "111111"),
    ("cat and dog", None, "111"), ("far far away", None, "111"),
]  # fmt: skip


def test_all_words_untrusted(settings, tmp_path):
    clips = [(text, None, "0" * len(mark)) for text, _, mark in SENTENCES]
    with pytest.raises(SpeechkdError, match=r"no word can be taught.*27 without a trusted time"):
        word_run(settings, tmp_path, clips)


def test_words_that_differ_from_their_texts(settings, tmp_path):
    clips = [(text, [w + "x" for w in text.split()], mark) for text, _, mark in SENTENCES]
    with pytest.raises(SpeechkdError, match="words of 6 of 6 clips spell another text"):
        word_run(settings, tmp_path, clips)


def test_one_speaker_is_said_and_no_speaker_refused(settings, tmp_path, capsys):
    word_run(settings, tmp_path, SENTENCES, speakers=["a"] * 6, teacher_side="within-speaker")
    told = capsys.readouterr().err
    assert "the means of 1 speaker (or recording) are taken away from words; with one alone" in told
    make_word_cache(tmp_path / "nobody", SENTENCES, speakers=[None] * 6, recordings=[None] * 6)
    with pytest.raises(SpeechkdError, match="neither a speaker nor a recording of any clip"):
        run(
            settings(
                cache=str(tmp_path / "nobody"), teacher_side="within-speaker",
                out=tmp_path / "other",
            )
        )  # fmt: skip


def test_each_word_once_leaves_nothing_in_common(settings, tmp_path):
    clips = [("one two", None, "11"), ("three four", None, "11"), ("five six", None, "11"),
             ("seven eight", None, "11")]  # fmt: skip
    with pytest.raises(SpeechkdError, match=r"each of the 8 spellings has one of the words alone"):
        word_run(settings, tmp_path, clips, teacher_side="within-word")


def test_some_words_once_are_counted(settings, tmp_path, capsys):
    word_run(settings, tmp_path, SENTENCES, teacher_side="within-word")
    told = capsys.readouterr().err
    assert "of them have one of the words alone, which loses the mean over all" in told


def test_a_batch_without_words_trains_on(settings, tmp_path):
    clips = [(text, None, "0" * len(mark)) for text, _, mark in SENTENCES]
    clips[0] = SENTENCES[0]
    word_run(settings, tmp_path, clips, kd=["infonce", "crd"], epochs=6.0, measure_every=1)
    logged = losses(settings().out)
    taught = [line["loss/word_crd"] for line in logged if "loss/word_crd" in line]
    assert 0 < len(taught) < len(logged)
    assert min(taught) > 0


def test_words_are_taken_from_clips_too(settings, caches, capsys):
    given = settings(
        "vectors", words=str(caches / "words"), level="clip", teacher_side="within-word"
    )
    run(given)
    told = capsys.readouterr().err
    assert "each clip loses the means of its words" in told
    assert losses(given.out)[-1]["loss/crd"] > 0


def test_caches_of_other_recordings_are_refused(settings, caches, tmp_path):
    make_word_cache(tmp_path / "others", SENTENCES, width=8)
    with pytest.raises(SpeechkdError, match="hardly meet"):
        run(settings("vectors", words=str(tmp_path / "others")))


@pytest.mark.slow
def test_two_processes_train_as_one(settings, tmp_path, tiny):
    """With objectives that need the other process's words, forward and backward."""
    config = json.loads(Path(tiny).read_text())
    config.update(attention_probs_dropout_prob=0.0)
    (tmp_path / "config.json").write_text(json.dumps(config))
    changes = {
        "kd": ["crd", "nst", "infonce"], "nst_pattern": "sequence", "crd_symmetric": True,
        "crd_negatives": 20, "word_tokens": "mean", "student": str(tmp_path / "config.json"),
    }  # fmt: skip
    one, two = settings(out=tmp_path / "one", **changes), settings(out=tmp_path / "two", **changes)
    run(one)
    flags = {"batch": "--batch-size", "crd_symmetric": ""}
    names = ("out", "kd", "student", "epochs", "batch", "vocab_size", "held_out", "log_every",
             "measure_every", "learning_rate", "device", "checkpoint_minutes", "nst_pattern",
             "crd_negatives", "word_tokens", "level")  # fmt: skip
    words = [
        word
        for name in names
        for word in (flags.get(name, f"--{name.replace('_', '-')}"), str(two.record()[name]))
    ]
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0",
            "--local-addr", "127.0.0.1", "-m", "stages.cli", "distill", str(two.cache),
            "--crd-symmetric", *words,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for wanted, got in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        for name in wanted:
            if name.startswith("loss"):
                assert got[name] == pytest.approx(wanted[name], rel=2e-5), name


def test_what_a_step_may_hold_is_told_and_grows_with_the_pairs_of_words():
    few = word_bytes(100, 100, 0, 64, 64, all_pairs=True)
    many = word_bytes(1000, 1000, 0, 64, 64, all_pairs=True)
    assert many > 10 * few
    assert many > 4 * 1000 * 1000 * 3, "logits, their gradient, a mask"
    assert word_bytes(1000, 1000, 0, 64, 64, all_pairs=False) < many
    assert word_bytes(1000, 1000, 5000, 64, 64, all_pairs=False) > word_bytes(
        1000, 1000, 0, 64, 64, all_pairs=False
    )
