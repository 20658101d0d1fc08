"""Stage one with other encoders than Whisper, earlier layers, and longer clips, by command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from pipeline.cache.identity import KINDS
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.manifest import read_manifest, write_manifest
from pipeline.shards.reading import Clip, read_shard
from stages import cache as cache_stage
from stages.cache import InfoSettings
from stages.extract_teacher import ExtractSettings, run
from tests.helpers.caches import vectors_of
from tests.helpers.tars import audio, line, sample, tar_bytes, write_corpus
from tests.helpers.wave_encoders import save_wave_encoder
from tests.helpers.whispers import save_random_whisper


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), [3, 1, 2])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "random-whisper"
    save_random_whisper(folder, layers=1, heads=1)
    return folder


def settings(manifest, cache, teacher, **changes) -> ExtractSettings:
    values = {"dtype": "float32", "batch_size": 2, "workers": 0, "devices": "cpu", **changes}
    return ExtractSettings(manifest=str(manifest), cache=str(cache), teacher=str(teacher), **values)


def extract(manifest, cache, teacher, **changes) -> TeacherCache:
    run(settings(manifest, cache, teacher, **{"context": "15s", **changes}))
    return TeacherCache.open(cache)


def content(cache):
    return {str(p.relative_to(cache)): p.read_bytes() for p in cache.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hubert") / "random-hubert"
    return folder, save_wave_encoder(folder, "hubert", "group", False)


def waves_of(corpus):
    """The clips of the corpus as stage one reads them, in order."""
    manifest = read_manifest(corpus)
    for listed in manifest:
        with Path(manifest.resolve(listed)).open("rb") as tar:
            yield from (c.wave_S for c in read_shard(tar, listed, "") if isinstance(c, Clip))


@pytest.mark.parametrize("layer", [-1, 1])
@pytest.mark.parametrize("keep", ["vector", "states"])
def test_another_encoder_gives_its_own_states(corpus, hubert, tmp_path, keep, layer):
    folder, model = hubert
    changes = {"layer": layer, "pooling": "length", "keep": keep}
    if keep == "states":
        del changes["pooling"]
    run(settings(corpus, tmp_path / "c", folder, **changes))
    cache = TeacherCache.open(tmp_path / "c", kinds=KINDS)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    expected = []
    for wave_S in waves_of(corpus):
        inputs = extractor(wave_S, sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.inference_mode():
            output = model(inputs, output_hidden_states=True)
        states = output.last_hidden_state if layer < 0 else output.hidden_states[layer]
        expected.append(states[0].numpy())
    if keep == "vector":
        means_BE = np.stack([states_TE.mean(axis=0) for states_TE in expected])
        np.testing.assert_allclose(vectors_of(cache), means_BE, atol=1e-5)
        assert cache.identity.settings.get("layer") == (None if layer < 0 else 1)
        assert cache.identity.settings["context_seconds"] == 0
    else:
        reader = SequenceReader(cache)
        got_NE = reader.values(range(len(expected))).numpy()
        np.testing.assert_allclose(got_NE, np.concatenate(expected), atol=1e-4)
        assert cache.identity.settings["layer"] == (3 if layer < 0 else 1)


def test_an_earlier_layer_of_whisper_is_another_cache(corpus, teacher, tmp_path):
    last = vectors_of(extract(corpus, tmp_path / "a", teacher))
    by_number = extract(corpus, tmp_path / "b", teacher, layer=1)  # it has one
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert "layer" not in by_number.identity.record()
    first = extract(corpus, tmp_path / "c", teacher, layer=0)
    assert first.identity.record()["layer"] == 0
    assert TeacherCache.open(tmp_path / "c").identity == first.identity
    assert np.abs(vectors_of(first) - last).max() > 0.01
    with pytest.raises(SpeechkdError, match="layer: cache 0, now None"):
        extract(corpus, tmp_path / "c", teacher)


def test_clips_too_short_for_a_state_are_refused(hubert, tmp_path):
    short = write_corpus(tmp_path / "corpus", [2], samples=350)  # the second has 447
    common = {"max_refused": 0.5}
    for keep in ({"keep": "vector", "pooling": "length"}, {"keep": "states"}):
        folder = tmp_path / keep["keep"]
        run(settings(short, folder, hubert[0], **common, **keep))
        cache = TeacherCache.open(folder, kinds=KINDS)
        (refused,) = cache.receipts()[0]["refused"]
        assert (refused["reason"], refused["key"]) == ("too short", "clip-0-0")
        assert "350 samples" in refused["detail"]
        assert [s["key"] for s in cache.shard_samples(0)] == ["clip-0-1"]


def test_words_of_a_teacher_without_a_decoder_come_from_the_samples(corpus, hubert, tmp_path):
    with pytest.raises(SpeechkdError, match=r"has no decoder.*--keep vector and --keep states"):
        run(settings(corpus, tmp_path / "c", hubert[0], keep="words"))
    members = [("a.flac", audio(16_000))]
    words = [("one", 0.1, 0.3), ("two", 0.3, 0.9)]
    told = [{"text": text, "start_s": start, "end_s": end} for text, start, end in words]
    members.append(("a.json", json.dumps({"text": "one two", "words": told}).encode()))
    content = tar_bytes(members)
    (tmp_path / "a.tar").write_bytes(content)
    write_manifest(tmp_path / "m.jsonl", [line(content, 1)])
    run(settings(tmp_path / "m.jsonl", tmp_path / "w", hubert[0], keep="words"))
    run(settings(tmp_path / "m.jsonl", tmp_path / "s", hubert[0], keep="states"))
    means_NE, states_TE = (
        SequenceReader(TeacherCache.open(tmp_path / name, kinds=KINDS)).values([0]).numpy()
        for name in "ws"
    )
    centres_s = (320 * np.arange(len(states_TE)) + 200) / 16_000
    for mean_E, (_, start, end) in zip(means_NE, words, strict=True):
        own = (centres_s >= start) & (centres_s < end)
        np.testing.assert_allclose(mean_E, states_TE[own].mean(axis=0), atol=1e-5)


def test_clips_of_which_a_part_would_be_heard_are_refused(teacher, tmp_path):
    content = tar_bytes(sample("a", samples=20 * 16_000))
    (tmp_path / "a.tar").write_bytes(content)
    write_manifest(tmp_path / "m.jsonl", [replace(line(content, 1), clip_seconds=20)])
    with pytest.raises(SpeechkdError, match="Use --pooling length"):
        extract(tmp_path / "m.jsonl", tmp_path / "c", teacher, context="30s")
    cache = extract(tmp_path / "m.jsonl", tmp_path / "c", teacher, context="30s", pooling="length")
    assert (cache.written, cache.identity.clip_seconds) == (1, 20)


def test_info_tells_layer_and_context_of_vectors(corpus, hubert, teacher, tmp_path, capsys):
    run(settings(corpus, tmp_path / "h", hubert[0], pooling="length", layer=1))
    extract(corpus, tmp_path / "w", teacher)
    for name, told in (
        ("h", "length of layer 1, the clip alone as context"),
        ("w", "fixed750, 15 s of context"),
    ):
        capsys.readouterr()
        cache_stage.info(InfoSettings(cache=str(tmp_path / name)))
        assert told in " ".join(capsys.readouterr().out.split())


def test_a_layer_of_nothing_is_refused():
    with pytest.raises(SpeechkdError, match="--encoder dummy has no layers"):
        settings("m", "c", "t", encoder="dummy", layer=1)
