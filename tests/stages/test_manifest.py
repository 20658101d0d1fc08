"""`manifest`: tars of another tool become a manifest that stage one takes as it is."""

import io

import pytest
import soundfile
import webdataset

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards import listing
from pipeline.shards.manifest import read_manifest
from pipeline.shards.reading import Clip, read_shard
from stages import manifest
from stages.manifest import ManifestSettings
from tests.helpers.tars import tar_bytes
from tests.helpers.whispers import speechlike


def wav(samples, seed):
    buffer = io.BytesIO()
    soundfile.write(buffer, speechlike(samples, seed), 16_000, format="WAV")
    return buffer.getvalue()


@pytest.fixture
def tars(tmp_path):
    """Two tars as webdataset's own writer makes them."""
    for number in range(2):
        with webdataset.TarWriter(str(tmp_path / f"train-{number}.tar")) as tar:
            for i in range(3):
                key = f"clip{number}{i}"
                content = {"wav": wav(4_000 + i, i), "json": {"text": f"number {i}", "speaker": i}}
                tar.write({"__key__": key, **content})
    return tmp_path


def run(*tars, **options):
    manifest.run(ManifestSettings(tars=[str(tar) for tar in tars], **{"workers": 0, **options}))


def test_webdatasets_own_tars_are_read_by_the_manifest(tars, capsys):
    run(tars, out=tars / "manifest.jsonl", clip_seconds=20)
    assert "6 samples, 2 tars" in capsys.readouterr().out
    listed = read_manifest(tars / "manifest.jsonl")
    assert [shard.url for shard in listed] == ["train-0.tar", "train-1.tar"]
    assert {shard.clip_seconds for shard in listed} == {20}
    clips = [
        clip
        for shard in listed
        for clip in read_shard((tars / shard.url).open("rb"), shard, shard.url)
        if isinstance(clip, Clip)
    ]
    assert [clip.text for clip in clips] == ["number 0", "number 1", "number 2"] * 2
    assert not list(tars.glob(".*"))


def test_one_tar_is_one_and_a_tar_that_is_not_there_is_told(tars, capsys):
    run(tars / "train-0.tar", out=tars / "manifest.jsonl")
    assert "3 samples, 1 tar," in capsys.readouterr().out
    with pytest.raises(SpeechkdError, match=r"none\.tar: there is no such file or folder"):
        run(tars / "none.tar", out=tars / "other.jsonl")


def test_processes_give_the_same_manifest(tars):
    run(tars, out=tars / "one.jsonl")
    run(tars, out=tars / "two.jsonl", workers=2)
    assert (tars / "one.jsonl").read_bytes() == (tars / "two.jsonl").read_bytes()


def test_an_interrupted_command_reads_no_tar_twice(tars, monkeypatch):
    calls = []
    whole = listing.list_tar

    def counted(tar):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(tar)
        return whole(tar)

    monkeypatch.setattr(listing, "list_tar", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tars, out=tars / "manifest.jsonl")
    monkeypatch.setattr(listing, "list_tar", lambda tar: calls.append(tar) or whole(tar))
    run(tars, out=tars / "manifest.jsonl")
    assert calls == [str(tars / "train-0.tar"), str(tars / "train-1.tar")]


def test_faults_are_counted_with_an_example_and_an_empty_tar_is_refused(tars, capsys):
    (tars / "train-2.tar").write_bytes(tar_bytes([("x.wav", wav(100, 0)), ("y.wav", b"")]))
    run(tars, out=tars / "manifest.jsonl")
    out = capsys.readouterr().out
    assert "would refuse: 2 for missing text, for instance 'x' of" in out
    (tars / "train-3.tar").write_bytes(tar_bytes([]))
    with pytest.raises(SpeechkdError, match=r"train-3\.tar holds no sample"):
        run(tars, out=tars / "manifest.jsonl")
