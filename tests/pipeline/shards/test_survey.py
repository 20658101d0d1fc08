"""A corpus in parts is looked through once: what is learnt of a file is kept."""

import os

import pytest

from pipeline.foundation.errors import Damaged
from pipeline.shards import survey as module
from pipeline.shards.arrow import find_files
from pipeline.shards.parts import Plan
from pipeline.shards.survey import survey
from stages import shard
from stages.shard import ShardSettings
from tests.helpers.audio_tables import rows, write_parquet

pytest.importorskip("pyarrow")

PLAN = Plan({"path": "audio", "text": "text", "key": "id"}, 10, 15)


@pytest.fixture
def corpus(tmp_path):
    for number in range(4):
        write_parquet(tmp_path / "in" / f"train-{number}.parquet", rows(3, 2 * number))
    return tmp_path / "in"


@pytest.fixture
def read(monkeypatch):
    """The files that are really read, in their order."""
    read, plain = [], module.guarded_call

    def spy(what, call, *arguments):
        read.append(what.rpartition("-")[2].removesuffix(".parquet"))
        return plain(what, call, *arguments)

    monkeypatch.setattr(module, "guarded_call", spy)
    return read


def parts_of(corpus, kept=None, first=0, plan=PLAN):
    return survey(find_files(str(corpus)), plan, 0, lambda _: None, kept, first)


def test_parts_are_the_same_wherever_it_begins_and_whoever_looked(corpus, tmp_path, read):
    wanted = parts_of(corpus)
    assert [part.number for part in wanted] == list(range(4))
    assert [part.rows for part in wanted] == [3] * 4
    assert [part.repeated for part in wanted] == [(), (0,), (0,), (0,)]
    kept = tmp_path / "kept"
    kept.mkdir()
    read.clear()
    assert parts_of(corpus, kept, first=2) == wanted
    assert read == ["2", "3", "0", "1"]
    assert parts_of(corpus, kept) == wanted
    assert len(read) == 4
    assert len(list(kept.iterdir())) == 4


def test_a_file_or_column_that_changed_is_read_again_and_so_is_a_torn_survey(
    corpus, tmp_path, read
):
    kept = tmp_path / "kept"
    kept.mkdir()
    before = parts_of(corpus, kept)
    write_parquet(corpus / "train-1.parquet", [{**row, "text": "x"} for row in rows(3, 2)])
    read.clear()
    after = parts_of(corpus, kept)
    assert read == ["1"]
    assert [a.digest == b.digest for a, b in zip(before, after, strict=True)] == [
        *(True, False, True, True)
    ]
    os.utime(corpus / "train-2.parquet", (1, 1))
    assert parts_of(corpus, kept) == after
    assert read == ["1", "2"]
    without_ids = Plan({"path": "audio", "text": "text"}, 10, 15)
    assert parts_of(corpus, kept, plan=without_ids) == parts_of(corpus, plan=without_ids)
    assert len(read) == 2 + 8
    for number, path in enumerate(sorted(kept.iterdir())):
        whole = path.read_bytes()
        torn = (b"", whole[:-1], whole[:20], b"\xff" * 40, b'[2, 0, 0, ""]\n', b"[1]\n", b"{}\n")
        path.write_bytes(torn[number % len(torn)])
    assert parts_of(corpus, kept) == after


def test_an_array_task_begins_with_its_own_files_and_reads_none_again(corpus, tmp_path, read):
    for task in range(2):
        settings = {"samples_per_shard": 2, "workers": 0, "max_refused": 1}
        shard.run(
            ShardSettings(
                source=str(corpus), out=tmp_path / "out", array_task=f"{task}/2", **settings
            )
        )
        assert read == ["0", "1", "2", "3"]
    assert (tmp_path / "out" / "manifest.jsonl").is_file()


def test_a_header_that_tells_of_other_rows_is_damage(corpus, monkeypatch):
    content = bytearray((corpus / "train-0.parquet").read_bytes())
    assert content.count(b"\x16\x06") >= 1  # three rows, in the footer's own numbers
    place = content.rindex(b"\x16\x06\x19")
    content[place : place + 2] = b"\x16\x08"
    (corpus / "train-0.parquet").write_bytes(content)
    with pytest.raises(Damaged, match=r"train-0\.parquet cannot be read: .*4 rows, and 3 are"):
        parts_of(corpus)
