"""One recording, one speaker, no negatives, nothing held out: each is said."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.tokenization import train_wordpiece
from pipeline.distillation.doubts import doubts, only_speaker, rival_share
from stages.distill import DistillSettings, run
from tests.helpers.caches import identity, manifest, shard_result


def cache_of(folder, names, speakers=("a", "b")):
    """A cache with a clip per name of a recording."""
    made = shard_result(len(names), 8, 0)
    kept = [
        {**sample, "recording": name, "speaker": speakers[i % len(speakers)]}
        for i, (sample, name) in enumerate(zip(made.samples, names, strict=True))
    ]
    cache = TeacherCache.create_or_open(folder, manifest([len(names)]), identity(), {})
    write_vectors(cache, 0, replace(made, samples=kept), {})
    return cache


def corpus_of(cache, share=0.1):
    texts = [s["text"] for shard in cache.receipts() for s in cache.shard_samples(shard)]
    tokenizer = train_wordpiece(lambda: texts, 100, lowercase=True, max_tokens=32)
    return read_corpus(cache, tokenizer, max_tokens=32, held_out_share=share, seed=0)


def test_clips_of_one_recording_have_no_negatives_and_nothing_is_held_out(tmp_path):
    corpus = corpus_of(cache_of(tmp_path, ["r1"] * 40))
    told = doubts(corpus, ["crd", "nst", "infonce"], 0.1)
    assert told[0].startswith("WARNING: crd and infonce: no pair of clips to train on can be told")
    assert "Nothing can be learnt from their vectors" in told[0]
    assert told[1].startswith("WARNING: nothing is held out")
    assert told[1].endswith("the clips are of one recording")
    assert len(doubts(corpus, ["nst"], 0.1)) == 1
    assert doubts(corpus, ["nst"], 0.0) == []


@pytest.mark.parametrize("names", [[None] * 40, [f"r{i // 4}" for i in range(40)]])
def test_several_or_unknown_recordings_are_no_doubt(tmp_path, names):
    assert doubts(corpus_of(cache_of(tmp_path, names)), ["crd"], 0.1) == []


def test_few_negatives_are_told_with_their_share(tmp_path):
    corpus = corpus_of(cache_of(tmp_path, ["r1"] * 39 + ["r2"]), share=0.0)
    (told,) = doubts(corpus, ["crd"], 0.0)
    assert "only 5 % of the pairs of clips" in told


@given(st.lists(st.integers(-1, 3), min_size=2, max_size=30))
def test_the_share_of_rivals_is_that_of_all_pairs(recordings):
    class Clips:
        recording_C = torch.tensor(recordings)
        spoken_train = torch.arange(len(recordings))

    pairs = [
        not (a == b and a >= 0)
        for i, a in enumerate(recordings)
        for j, b in enumerate(recordings)
        if i != j
    ]
    assert rival_share(Clips) == pytest.approx(sum(pairs) / len(pairs))


def test_one_speaker_is_named(tmp_path):
    assert only_speaker(cache_of(tmp_path / "a", ["r1", "r2"], ("me",))) == "me"
    assert only_speaker(cache_of(tmp_path / "b", ["r1", "r2"], ("me", "you"))) is None
    assert only_speaker(cache_of(tmp_path / "c", ["r1", "r2"], ("me", None))) is None
    assert only_speaker(cache_of(tmp_path / "d", ["r1", "r2"], (None,))) is None


def test_distill_says_it(tmp_path, capsys):
    cache_of(tmp_path / "cache", ["r1"] * 40, ("me",))
    run(DistillSettings(cache=str(tmp_path / "cache"), out=tmp_path / "run", student="bert-tiny",
                        batch=16, held_out=0.1, device="cpu", dry_run=True))  # fmt: skip
    told = capsys.readouterr().err
    assert "WARNING: crd: no pair of clips" in told
    assert "WARNING: nothing is held out" in told
    assert "WARNING: all clips are of one speaker (me)" in told
