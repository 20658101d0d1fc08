"""Tars from strangers, through `extract-teacher`: nothing leaves the cache, nothing is run."""

import hashlib
import io
import json
import os
import pickle
import tarfile

import pytest

from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.manifest import Shard, write_manifest
from stages.cache import ExportSettings, InfoSettings, VerifySettings, export, info, verify
from stages.extract_teacher import ExtractSettings, run
from tests.helpers.caches import samples_of
from tests.helpers.tars import audio, sample

GOOD = [*sample("good")]


def member(name, content=b"", kind=tarfile.REGTYPE, linkname="", headers=None):
    found = tarfile.TarInfo(name)
    found.size, found.type, found.linkname = len(content), kind, linkname
    found.pax_headers = headers or {}
    return found, content


def clip(key, text="said"):
    return [member(f"{key}.flac", audio()), member(f"{key}.txt", text.encode())]


def corpus(folder, members, samples):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info_, content in members:
            tar.addfile(info_, io.BytesIO(content))
    content = buffer.getvalue()
    (folder / "a.tar").write_bytes(content)
    shard = Shard("a.tar", samples, len(content), hashlib.sha256(content).hexdigest())
    write_manifest(folder / "manifest.jsonl", [shard])


def extracted(folder):
    run(
        ExtractSettings(
            manifest=str(folder / "manifest.jsonl"),
            cache=str(folder / "cache"),
            encoder="dummy",
            devices="cpu",
            max_refused=1,
        )
    )
    return TeacherCache.open(folder / "cache")


class Canary:
    """A pickle that leaves a file where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


NAMES = {
    "absolute": "/etc/cron.d/evil",
    "upwards": "../../../evil",
    "upwards within": "a/../../evil",
    "home": "~/evil",
    "variable": "$HOME/evil",
    "Windows": "C:\\evil",
    "option": "--checkpoint-action=exec=sh",
    "markup": "[/red]<script>alert(1)</script>",
}


@pytest.mark.parametrize("key", NAMES.values(), ids=NAMES)
def test_a_name_is_a_key_and_never_a_path(tmp_path, key, capsys):
    inside = tmp_path / "in"
    inside.mkdir()
    corpus(inside, [*clip("good"), *clip(key)], 2)
    cache = extracted(inside)
    assert samples_of(cache).keys == ["good", key]
    info(InfoSettings(cache=str(inside / "cache")))
    verify(VerifySettings(cache=str(inside / "cache")))
    export(ExportSettings(cache=str(inside / "cache"), out=inside / "out"))
    assert sorted(path.name for path in inside.iterdir()) == [
        *("a.tar", "cache", "manifest.jsonl", "out")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    rows = [json.loads(line) for line in (inside / "out" / "samples.jsonl").open()]
    assert rows[1]["key"] == key
    assert "sound" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["a\nb", "a\x1b[31mb", "\x9b2J", "a\u2028b"])
def test_a_name_that_commands_a_terminal_is_refused(tmp_path, key, capsys):
    corpus(tmp_path, [*clip("good"), *clip(key)], 2)
    cache = extracted(tmp_path)
    assert samples_of(cache).keys[0] == "good"
    for refusal in cache.receipts()[0]["refused"]:
        assert refusal["reason"] == "unusable key"
    info(InfoSettings(cache=str(tmp_path / "cache")))
    assert not set(capsys.readouterr().out) & set("\x1b\x9b\u2028")


def test_links_devices_and_pipes_are_passed_over(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    odd = [member(f"{n}.flac", kind=kind, linkname="/etc/passwd") for n, kind in enumerate(kinds)]
    corpus(tmp_path, [*odd, *clip("good"), member("d", kind=tarfile.DIRTYPE)], 1)
    assert samples_of(extracted(tmp_path)).keys == ["good"]


@pytest.mark.parametrize("suffix", ["pyd", "pkl", "pickle", "pth", "pt", "npy", "npz", "joblib"])
def test_a_pickled_member_refuses_its_sample_and_is_not_read(tmp_path, suffix):
    ran = tmp_path / "ran"
    bomb = pickle.dumps(Canary(ran))
    corpus(tmp_path, [*clip("bad"), member(f"bad.{suffix}", bomb), *clip("good")], 2)
    cache = extracted(tmp_path)
    assert samples_of(cache).keys == ["good"]
    assert cache.receipts()[0]["refused"][0]["reason"] == "pickled member"
    assert not ran.exists()


ODD = {
    "a long name": [*clip("x" * 3000), *clip("good")],
    "a name beyond a path's": [*clip("x" * 5000), *clip("good")],
    "33 members of a sample": [
        *(member(f"many.{n}") for n in range(40)),
        *clip("many"),
        *clip("good"),
    ],
    "half a surrogate": [*clip("\udcff"), *clip("good")],
}


@pytest.mark.parametrize("members", ODD.values(), ids=ODD)
def test_an_odd_sample_leaves_the_others(tmp_path, members):
    corpus(tmp_path, members, 2)
    cache = extracted(tmp_path)
    assert "good" in samples_of(cache).keys
    assert len(samples_of(cache)) + len(cache.receipts()[0]["refused"]) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999"},
        {"GNU.sparse.map": "0,1,2"},
        {"GNU.sparse.size": "-5"},
        {"size": "-1"},
        {"size": "99999999999999999999"},
        {"size": "x"},
        {"path": "y" * 100_000},
    ],
    ids=str,
)
def test_broken_headers_end_the_tar_and_are_told(tmp_path, headers):
    corpus(tmp_path, [*clip("first"), member("evil.txt", b"x" * 512, headers=headers)], 3)
    with pytest.raises(SpeechkdError):
        extracted(tmp_path)


TEXTS = {
    "a command": "$(touch ran) `touch ran`; touch ran",
    "a variable": "${HOME} %PATH% ~",
    "a template": "{{7*7}} {0.__class__} %s %n",
    "a tag": "<script>alert(1)</script>",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_kept_as_it_is(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path, clip("a", text), 1)
    assert samples_of(extracted(tmp_path)).texts == [text]
    assert not (tmp_path / "ran").exists()
