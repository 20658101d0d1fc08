"""Locations that come with data, and secrets that come with locations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import console, say
from pipeline.foundation.storage import local_path
from pipeline.foundation.untrusted import printable
from pipeline.shards.manifest import read_manifest
from stages.extract_teacher import ExtractSettings, run

ROOT = Path(__file__).parent.parent.parent
COMMANDS = [
    "pipe:touch ran",
    "pipe:cat /etc/passwd |",
    "zip://a.tar::https://host/b.zip",
    "simplecache::s3://bucket/a.tar",
    "github://org:repo@main/a.tar",
    "python://x",
    "reference://x",
    "shell://touch ran",
    "ftp://host/a.tar",
]
NO_FILES = [
    "~/a.tar",
    "$HOME/a.tar",
    "${HOME}/a.tar",
    "%USERPROFILE%/a.tar",
    "`touch ran`",
    "$(touch ran)",
    "a.tar; touch ran",
    "| touch ran",
    "*.tar",
    "{0..9}.tar",
    "a.tar\u200b",
]


def manifest(folder, url):
    line = {"url": url, "samples": 1, "bytes": 10, "sha256": "0" * 64}
    (folder / "manifest.jsonl").write_text(json.dumps(line))
    return str(folder / "manifest.jsonl")


def extract(folder, url):
    given = manifest(folder, url)
    run(ExtractSettings(manifest=given, cache=str(folder / "c"), encoder="dummy", devices="cpu"))


@pytest.mark.parametrize("url", COMMANDS)
def test_what_runs_or_chains_is_refused(tmp_path, url, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpeechkdError, match=r"unknown scheme|refused"):
        extract(tmp_path, url)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("url", NO_FILES)
def test_a_name_is_taken_as_it_is_written(tmp_path, url, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.tar").write_bytes(b"here")
    with pytest.raises(SpeechkdError, match="there is no file"):
        extract(tmp_path, url)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_tar_of_the_manifest_gives_nothing_away(tmp_path, capsys):
    (tmp_path / "passwd").write_text("root:x:0:0:secret-line")
    with pytest.raises(SpeechkdError) as told:
        extract(tmp_path, f"file://{tmp_path}/passwd")
    out = capsys.readouterr()
    assert "secret-line" not in str(told.value) + out.out + out.err


@pytest.mark.parametrize("url", ["a\nb.tar", "a\x1b]0;x\x07.tar", "\ud800.tar", "a\x00.tar"])
def test_a_url_with_control_characters_is_refused(tmp_path, url):
    with pytest.raises(SpeechkdError, match="control character"):
        read_manifest(manifest(tmp_path, url))


SECRET = "hunter2hunter2"  # noqa: S105
SIGNED = [
    f"s3://key:{SECRET}@bucket/a.tar",
    f"https://user:{SECRET}@host/a.tar",
    f"sftp://u:{SECRET}@host/a.tar",
    f"https://b.s3.amazonaws.com/a.tar?X-Amz-Signature={SECRET}",
    f"https://storage.googleapis.com/b/a.tar?X-Goog-Signature={SECRET}&x=1",
    f"https://acc.blob.core.windows.net/c/a.tar?sv=1&sig={SECRET}",
    f"https://host/a.tar?token={SECRET}",
]


@pytest.mark.parametrize("url", SIGNED)
def test_a_url_with_a_secret_is_refused_without_repeating_it(tmp_path, url):
    with pytest.raises(SpeechkdError, match="password or signature") as told:
        extract(tmp_path, url)
    assert SECRET not in str(told.value)
    with pytest.raises(SpeechkdError, match="password or signature"):
        local_path(url)


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract-teacher", SIGNED[0], "--cache", "c"],
        ["distill", SIGNED[3], "--out", "o"],
        ["shard", SIGNED[6], "--out", "o"],
        ["cache", "info", SIGNED[1]],
    ],
)
def test_no_command_prints_a_secret(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "stages.cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not any(SECRET in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_what_is_said_and_recorded_hides_secrets_of_the_environment(monkeypatch):
    from pipeline.foundation import provenance

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijkl")
    monkeypatch.setattr(
        sys, "argv", ["speechkd", "x", f"--y={SECRET}", f"https://u:{SECRET}@h/?a=b"]
    )
    record = json.dumps(provenance.record())
    assert SECRET not in record
    assert "https://***@h/?***" in record
    with console.capture() as taken:
        say(f"AccessDenied for {SECRET}, hf_abcdefghijkl at s3://a:b@c/d?e=f \x1b[2J")
    assert taken.get().strip() == "AccessDenied for ***, *** at s3://***@c/d?*** \ufffd[2J"


def test_plain_text_is_shown_as_it_is():
    text = "s3://bucket/a b.tar, «é»:\n\tuser@host, 50 % of 3?"
    assert printable(text) == text
