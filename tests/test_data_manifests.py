"""The example tables are read as their pages say, and People's Speech becomes shards."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.shards.corpora import open_source
from pipeline.shards.manifest import read_manifest
from pipeline.tasks.mosei.tables import read_table
from stages import shard

FOLDER = Path(__file__).parent.parent / "data_manifests"


def test_example_tables_are_read_as_the_page_says():
    entries = list(open_source(FOLDER / "own_table.csv").read())
    assert [entry.key for entry in entries] == ["anna-1", "anna-2", "ben-1"]
    assert entries[1].text == 'She said "never again" and left.'
    assert entries[2].path == FOLDER / "clips" / "ben-1.wav"
    segments = list(open_source(FOLDER / "own_segments.jsonl").read())
    assert segments[0].key == "talks/monday_0.000_4.200"
    assert [(s.start_s, s.end_s) for s in segments] == [(0, 4.2), (4.2, 11.75), (12.5, 19)]
    assert segments[1].speaker == "carla"


def test_lines_shown_on_the_page_are_lines_of_the_examples():
    page = (FOLDER / "own_folder.md").read_text(encoding="utf-8")
    assert "\n".join((FOLDER / "own_table.csv").read_text().splitlines()[:2]) in page


def test_mosei_example_is_read():
    corpus = read_table(FOLDER / "cmu_mosei_example.csv")
    assert [clip.split for clip in corpus.clips] == ["train", "train", "valid", "test"]


def test_peoples_speech_from_parquet_to_shards(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    raw = tmp_path / "raw"
    raw.mkdir()
    for part in range(2):
        rows = []
        for i in range(3):
            soundfile.write(tmp_path / "clip.flac", np.zeros(1600 + i), 16_000)
            content = (tmp_path / "clip.flac").read_bytes()
            name = f"talk_SLASH_a.b_DOT_mp3_{3 * part + i:05d}.flac"
            audio = {"bytes": content, "path": name}
            rows.append({"id": name, "audio": audio, "duration_ms": 100, "text": f"part {part}"})
        table = pa.Table.from_pylist(rows)
        parquet.write_table(table, raw / f"train-{part:05d}-of-00002.parquet")
    command = [sys.executable, str(FOLDER / "peoples_speech.py"), str(raw), str(tmp_path / "audio")]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
    listing = tmp_path / "audio" / "table.jsonl"
    entries = list(open_source(listing).read())
    assert [entry.key for entry in entries] == [f"talk_SLASH_a.b_DOT_mp3_{i:05d}" for i in range(6)]
    assert {entry.recording for entry in entries} == {"talk_SLASH_a.b_DOT_mp3"}
    shard.run(shard.ShardSettings(source=listing, out=tmp_path / "shards", workers=0))
    assert read_manifest(tmp_path / "shards" / "manifest.jsonl").samples == 6
