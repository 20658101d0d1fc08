"""Missing, damaged and out of reach are three classes of error, whatever room meets them."""

import pytest

from pipeline.cache.store import TeacherCache
from pipeline.cluster.chain import read_plan
from pipeline.extraction.weights import teacher_folder
from pipeline.foundation import storage
from pipeline.foundation.errors import Damaged, NotThere, Unreachable
from pipeline.foundation.tables import read_rows
from pipeline.shards.manifest import read_manifest
from pipeline.training.run_folder import RunFolder


def open_stream(location):
    with storage.open_stream(str(location)) as stream:
        stream.read(1)


READERS = {
    "a manifest": (read_manifest, "manifest.jsonl"),
    "a table": (lambda path: list(read_rows(path)[1]), "table.csv"),
    "a plan": (lambda path: read_plan(path.parent), "plan.json"),
    "a cache": (lambda path: TeacherCache.open(path.parent), "zarr.json"),
}


@pytest.mark.parametrize(("read", "name"), READERS.values(), ids=READERS)
def test_what_is_missing_is_not_there(tmp_path, read, name):
    with pytest.raises(NotThere):
        read(tmp_path / name)


@pytest.mark.parametrize(("read", "name"), READERS.values(), ids=READERS)
def test_what_is_torn_is_damaged(tmp_path, read, name):
    (tmp_path / name).write_bytes(b'{"speechkd"\n\xff')
    with pytest.raises(Damaged):
        read(tmp_path / name)


def test_a_folder_that_is_not_there_is_no_teacher(tmp_path):
    with pytest.raises(NotThere):
        teacher_folder(str(tmp_path / "whisper"))


def test_a_run_of_another_record_is_damaged(tmp_path):
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(Damaged):
        RunFolder(tmp_path, "model").record()


def test_a_missing_tar_is_not_there_and_a_forbidden_one_out_of_reach(tmp_path, monkeypatch):
    with pytest.raises(NotThere):
        open_stream(tmp_path / "0.tar")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(Unreachable):
        open_stream(tmp_path / "0.tar")


def test_storage_that_does_not_answer_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)

    def call():
        raise TimeoutError("no answer")

    with pytest.raises(Unreachable):
        storage.retried(call, "s3://b/k")
