"""Compressed texts come back as they were written; torn ones and bombs are told."""

import gzip
import os

import pytest

from pipeline.foundation import compressed, guarded
from pipeline.foundation.compressed import opened_plain, plain_suffix
from pipeline.foundation.errors import Damaged, SpeechkdError

TEXT = "".join(f"line {i} é\r\n" for i in range(20_000)).encode()


def folded(path):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(TEXT))
    else:
        pa = pytest.importorskip("pyarrow")
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(TEXT)
    return path


def content(path):
    with opened_plain(path) as file:
        return file.read()


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_what_was_folded_comes_back_and_a_torn_file_is_told(tmp_path, suffix):
    path = folded(tmp_path / f"a.tsv.{suffix}")
    assert content(path) == TEXT
    assert plain_suffix(path) == ".tsv"
    with opened_plain(path) as file:
        assert list(file)[:2] == TEXT.splitlines(keepends=True)[:2]
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"hello" * 30, whole[:40] + b"\xff" * 90):
        path.write_bytes(broken)
        with pytest.raises(Damaged, match="cannot be unfolded"):
            content(path)


def test_a_plain_file_is_itself(tmp_path):
    (tmp_path / "a.TSV").write_bytes(TEXT)
    assert content(tmp_path / "a.TSV") == TEXT
    assert plain_suffix(tmp_path / "a.TSV") == ".tsv"
    with pytest.raises(FileNotFoundError):
        content(tmp_path / "b.tsv.gz")


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_bomb_stops_at_its_bound(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(compressed, "MAX_TEXT_FILE_BYTES", 1000)
    monkeypatch.setattr(compressed, "MOST_UNFOLDED", 2)
    path = folded(tmp_path / f"a.{suffix}")
    with pytest.raises(SpeechkdError, match="unfolds to over"):
        content(path)


def test_a_zst_on_which_arrow_dies_is_told_by_name(tmp_path, monkeypatch):
    (tmp_path / "pyarrow.py").write_text(
        "import os\ndef CompressedInputStream(file, kind):\n    os.abort()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(guarded, "_idle", [])  # a new process, which sees the path of now
    (tmp_path / "a.csv.zst").write_bytes(b"x")
    with pytest.raises(Damaged, match=r"a\.csv\.zst cannot be read.* died of SIGABRT"):
        content(tmp_path / "a.csv.zst")


def test_a_small_zst_read_in_part_leaves_its_process_for_the_next(tmp_path):
    path = folded(tmp_path / "a.tsv.zst")
    process = guarded.guarded_call("x", os.getpid)
    with opened_plain(path) as file:
        file.readline()
    assert guarded.guarded_call("x", os.getpid) == process
