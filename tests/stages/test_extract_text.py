"""Text states by command: `AutoModel`'s for each transcript of another cache, alone."""

import multiprocessing
import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.texts import texts_sha256
from pipeline.cache.vectors import write_vectors
from pipeline.extraction import text_teacher
from pipeline.extraction.settings import TextSettings
from pipeline.foundation.errors import SpeechkdError
from stages import cache as cache_stage
from stages.cache import MergeSettings, VerifySettings
from stages.extract_text import run
from tests.helpers.caches import identity, make_cache, make_sequence_cache, manifest, shard_result
from tests.helpers.encoders import save_encoder

COUNTS = [5, 1, 7, 3]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    texts = [f"{a} {b}" for a in ("the", "cat", "dog") for b in ("sat", "ran", "sang", "near")]
    return save_encoder(tmp_path_factory.mktemp("teacher") / "tiny-bert", texts)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A cache of vectors with a refused sample in its third shard."""
    folder = tmp_path_factory.mktemp("source") / "c"
    cache = TeacherCache.create_or_open(folder, manifest(COUNTS), identity(8), {})
    for shard, samples in enumerate(COUNTS):
        refused = (2,) if shard == 2 else ()
        write_vectors(cache, shard, shard_result(samples, 8, shard, refused), {})
    return folder


def settings(source, out, teacher, **changes) -> TextSettings:
    values = {"dtype": "float32", "max_tokens": 12, "batch_size": 2, "devices": "cpu", **changes}
    return TextSettings(cache=str(source), out=str(out), teacher=str(teacher), **values)


def extract(source, out, teacher, **changes) -> TeacherCache:
    run(settings(source, out, teacher, **changes))
    return TeacherCache.open(out, kinds=("text",))


def content(cache):
    """Every file of a cache but what a kill may leave half-written under a temporary name."""
    files = [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".partial"]
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


@pytest.mark.parametrize("layer", [-1, 1])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_states_are_those_of_the_library_for_each_text_alone(
    source, teacher, tmp_path, layer, dtype
):
    cache = extract(source, tmp_path / "t", teacher, layer=layer, dtype=dtype)
    reader = SequenceReader(cache)
    tokenizer = transformers.AutoTokenizer.from_pretrained(teacher)
    model = transformers.AutoModel.from_pretrained(teacher).eval()
    wanted = [s for n in range(4) for s in TeacherCache.open(source).shard_samples(n)]
    assert reader.clips.key == [sample["key"] for sample in wanted]
    assert reader.clips.text == [sample["text"] for sample in wanted]
    for place, sample in enumerate(wanted):
        inputs = tokenizer(sample["text"], return_tensors="pt", truncation=True, max_length=12)
        with torch.inference_mode():
            output = model(**inputs, output_hidden_states=True)
        expected_LE = output.hidden_states[layer][0].numpy()
        tolerance = 1e-5 if dtype == "float32" else 3e-3
        np.testing.assert_allclose(reader.values([place]), expected_LE, atol=tolerance)
        ids_L = reader.ids(reader.clips.row[[place]], reader.clips.rows[[place]])
        assert ids_L.tolist() == inputs["input_ids"][0].tolist()


def test_what_was_refused_stays_refused_and_what_was_cut_is_marked(
    source, teacher, tmp_path, capsys
):
    cache = extract(source, tmp_path / "t", teacher, max_tokens=8)
    assert (
        cache.receipts([2])[2]["refused"] == TeacherCache.open(source).receipts([2])[2]["refused"]
    )
    samples = [s for n in range(4) for s in cache.shard_samples(n)]
    whole = transformers.AutoTokenizer.from_pretrained(teacher)
    long = [len(whole(s["text"])["input_ids"]) > 8 for s in samples]
    assert [sample.get("cut", False) for sample in samples] == long
    told = capsys.readouterr().out
    assert "15 clips written, 1 sample refused, of 16 in 4 shards" in told
    assert f"cut: {sum(long)} texts of over 8 tokens" in told
    cache_stage.verify(VerifySettings(cache=str(tmp_path / "t")))


def test_the_identity_is_of_teacher_tokenizer_and_texts(source, teacher, tmp_path):
    cache = extract(source, tmp_path / "t", teacher)
    told = cache.identity.settings
    assert cache.identity.kind == "text"
    assert (cache.identity.width, cache.identity.most_rows) == (32, 12)
    assert told["texts_sha256"] == texts_sha256(TeacherCache.open(source)) == texts_sha256(cache)
    assert (told["teacher"], told["layer"], told["max_tokens"]) == ("tiny-bert", 2, 12)
    for changes, name in (
        ({"layer": 1}, "layer"),
        ({"lowercase": False}, "lowercase"),
        ({"max_tokens": 16}, "max_tokens"),
        ({"teacher": other(teacher, tmp_path)}, "teacher_sha256"),
    ):
        with pytest.raises(SpeechkdError, match=f"made with other settings.*{name}: cache "):
            extract(source, tmp_path / "t", **{"teacher": teacher, **changes})
    with pytest.raises(SpeechkdError, match=r"other settings \(layer: cache 2, now 1\)"):
        extract(source, tmp_path / "t", teacher, layer=1)  # one setting is one difference
    another = make_cache(tmp_path / "c", COUNTS)
    with pytest.raises(SpeechkdError, match="texts_sha256"):
        extract(another.location, tmp_path / "t", teacher)


def other(teacher, folder):
    """An encoder of the same name with other weights."""
    copy = shutil.copytree(teacher, folder / "other" / "tiny-bert")
    model = transformers.AutoModelForMaskedLM.from_pretrained(copy)
    torch.nn.init.normal_(model.base_model.embeddings.word_embeddings.weight)
    model.save_pretrained(copy)
    return copy


def test_texts_of_a_cache_of_any_kind_are_read(teacher, tmp_path):
    for kind in ("words", "states", "text"):
        frames = make_sequence_cache(tmp_path / kind, [3, 2], kind)
        cache = extract(frames.location, tmp_path / f"{kind}-text", teacher)
        assert texts_sha256(cache) == texts_sha256(frames)


def test_merged_text_caches_are_those_of_the_merged_source(teacher, tmp_path):
    for name, first in (("a", 0), ("b", 2)):
        shards = (first, first + 1)
        listed = manifest([4, 4, 4, 4])
        part = replace(listed, shards=tuple(listed.shards[shard] for shard in shards))
        cache = TeacherCache.create_or_open(tmp_path / name, part, identity(8), {})
        for place, seed in enumerate(shards):
            write_vectors(cache, place, shard_result(4, 8, seed), {})
        extract(cache.location, tmp_path / f"{name}-text", teacher)
    for suffix in ("", "-text"):
        parts = [str(tmp_path / f"{name}{suffix}") for name in "ab"]
        cache_stage.merge(MergeSettings(caches=parts, out=str(tmp_path / f"all{suffix}")))
    whole = extract(tmp_path / "all", tmp_path / "again", teacher)
    merged = TeacherCache.open(tmp_path / "all-text", kinds=("text",))
    assert merged.identity.settings == whole.identity.settings
    cache_stage.verify(VerifySettings(cache=merged.location))
    assert merged.digest() == whole.digest()
    (tmp_path / "b-text" / "receipts" / "000001.json").unlink()
    with pytest.raises(SpeechkdError, match=r"b-text: 1 shard is not done.*extract-text"):
        cache_stage.merge(MergeSettings(caches=parts, out=str(tmp_path / "other")))


def test_array_tasks_and_devices_change_nothing(source, teacher, tmp_path):
    extract(source, tmp_path / "a", teacher)
    for index in (1, 0):
        extract(source, tmp_path / "b", teacher, array_task=f"{index}/2")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.slow
def test_several_devices_change_nothing(source, teacher, tmp_path):
    extract(source, tmp_path / "a", teacher)
    extract(source, tmp_path / "b", teacher, devices="cpu,cpu")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def crash(configured: TextSettings, at: int) -> None:
    torch.set_num_threads(1)
    calls = 0
    sync = os.fsync

    def dying(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            os._exit(9)
        sync(descriptor)

    os.fsync = dying
    run(configured)


def test_killed_at_random_instants_it_ends_the_same(source, teacher, tmp_path):
    extract(source, tmp_path / "a", teacher)
    whole = content(tmp_path / "a")
    configured = settings(source, tmp_path / "b", teacher)
    context = multiprocessing.get_context("fork")
    for at in sorted(random.Random(0).sample(range(2, 25), 4)):
        process = context.Process(target=crash, args=(configured, at))
        process.start()
        process.join()
        assert process.exitcode in (0, 9)
    run(configured)
    assert content(tmp_path / "b") == whole


def test_a_second_run_does_nothing_and_says_so(source, teacher, tmp_path, capsys, monkeypatch):
    extract(source, tmp_path / "t", teacher)
    monkeypatch.setattr(text_teacher.TextTeacher, "states_of", None)
    extract(source, tmp_path / "t", teacher)
    assert "4 shards of this task, all done; nothing to do" in capsys.readouterr().err


def test_a_dry_run_counts_the_tokens_and_writes_nothing(source, teacher, tmp_path, capsys):
    run(settings(source, tmp_path / "t", teacher, dry_run=True))
    told = capsys.readouterr().out
    assert not (tmp_path / "t").exists()
    cache = extract(source, tmp_path / "t", teacher)
    assert "15 clips in 4 shards" in told
    assert f"tokens      {cache.rows:,}, " in told
    assert "on cpu\n" in told
    stored = [f for array in ("rows", "ids") for f in (tmp_path / "t" / array / "c").rglob("*")]
    size = sum(f.stat().st_size for f in stored if f.is_file())
    assert f"to write    {size / 1e6:,.1f} MB, " in told


def test_a_dry_run_on_a_begun_cache_tells_what_is_left(source, teacher, tmp_path, capsys):
    cache = extract(source, tmp_path / "t", teacher)
    left = cache.receipts()[2]
    (tmp_path / "t" / "receipts" / "000002.json").unlink()
    capsys.readouterr()
    run(settings(source, tmp_path / "t", teacher, dry_run=True))
    told = capsys.readouterr().out
    assert "15 clips in 4 shards" in told
    assert "to be continued" in told
    assert f"to do       1 shard, {left['written']} clip" in told
    assert f"tokens      {left['rows']:,}, " in told
    run(settings(source, tmp_path / "t", teacher, dry_run=True, array_task="0/4"))
    told = capsys.readouterr().out
    assert "this task   0/4 (--array-task 0/4): 1 shard\n" in told


def test_an_unfinished_source_is_refused_and_its_command_is_named(teacher, tmp_path):
    cache = make_cache(tmp_path / "c", [3, 2])
    (tmp_path / "c" / "receipts" / "000001.json").unlink()
    with pytest.raises(SpeechkdError, match=r"1 of 2 shards are not done.*extract-teacher"):
        extract(cache.location, tmp_path / "t", teacher)


def test_no_cache_and_a_cache_of_another_kind_in_its_place_are_refused(source, teacher, tmp_path):
    with pytest.raises(SpeechkdError, match="there is no cache here"):
        extract(tmp_path / "none", tmp_path / "t", teacher)
    with pytest.raises(
        SpeechkdError, match="is a cache of kind vector, and this would make one of kind text"
    ):
        extract(source, source, teacher)


def test_the_hub_out_of_reach_is_said_and_nothing_is_made(source, tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(SpeechkdError, match="the hub cannot be reached"):
        extract(source, tmp_path / "t", "nobody/has-such-a-model")
    assert not (tmp_path / "t").exists()
