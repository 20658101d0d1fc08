"""The bill of a corpus in parts is near what it costs, and a full disk is told before."""

from dataclasses import replace

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards import bill as module
from pipeline.shards.arrow import find_files
from pipeline.shards.bill import bill
from pipeline.shards.parts import Plan
from pipeline.shards.settings import ShardSettings
from pipeline.shards.survey import survey
from stages import shard
from tests.helpers.audio_tables import rows, write_parquet

pytest.importorskip("pyarrow")


@pytest.fixture
def parts(tmp_path):
    for i in range(3):
        write_parquet(tmp_path / "in" / f"train-{i}.parquet", rows(20, 20 * i), 20)
    plan = Plan({"path": "audio", "text": "text", "key": "id"}, 1000, 15)
    return survey(find_files(str(tmp_path / "in")), plan, 0, lambda _: None), plan


def test_it_is_near_the_truth(parts, tmp_path):
    estimate = bill(*parts, lambda _: None)
    shard.run(ShardSettings(source=str(tmp_path / "in"), out=tmp_path / "out", workers=0))
    tars = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.tar"))
    seconds = sum(3_200 + 160 * i for i in range(60)) / 16_000
    assert estimate.tar_bytes == pytest.approx(tars, rel=0.25)
    assert estimate.seconds == pytest.approx(seconds, rel=0.15)
    assert estimate.clips == 24


def test_a_disk_without_room_is_told(parts, tmp_path, monkeypatch):
    estimate = bill(*parts, lambda _: None)
    assert "free there" in estimate.lines(parts[0], tmp_path / "a" / "b")[0]
    full = type("usage", (), {"free": 10})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: full)
    with pytest.raises(SpeechkdError, match="more than there is room for"):
        estimate.lines(parts[0], tmp_path)


def test_three_refusals_are_named_per_reason(tmp_path):
    damaged = [{**row, "audio": {"bytes": b"no sound", "path": "x.flac"}} for row in rows(5)]
    write_parquet(tmp_path / "in" / "train.parquet", damaged)
    plan = Plan({"path": "audio", "text": "text", "key": "id"}, 1000, 15)
    estimate = bill(survey(find_files(str(tmp_path / "in")), plan, 0, lambda _: None), plan, int)
    (line,) = [text for text in estimate.lines([], tmp_path) if "would refuse" in text]
    assert "5 for undecodable audio" in line
    assert [f"talk_{i // 4}_{i:03d}" in line for i in range(5)] == [True] * 3 + [False] * 2


def test_a_file_that_needs_much_memory_is_told(parts, tmp_path, monkeypatch):
    estimate = bill(*parts, lambda _: None)
    assert not any("holds up to" in line for line in estimate.lines(parts[0], tmp_path))
    large = [replace(part, held_bytes=700_000_000 + part.number) for part in parts[0]]
    assert any("up to about 700 MB of it" in line for line in estimate.lines(large, tmp_path))
