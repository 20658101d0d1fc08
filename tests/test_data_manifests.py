"""The example tables are read as their pages say, and People's Speech becomes shards."""

import re
from pathlib import Path

import pytest

from pipeline.shards.corpora import open_source
from pipeline.shards.manifest import read_manifest
from pipeline.shards.reading import Clip, read_shard
from pipeline.tasks.mosei.tables import read_table
from stages import shard
from tests.helpers.audio_tables import write_parquet
from tests.helpers.tars import audio

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


def test_peoples_speech_from_parquet_to_shards_as_the_page_says(tmp_path):
    pytest.importorskip("pyarrow")
    page = (FOLDER / "peoples_speech.md").read_text(encoding="utf-8")
    (pattern,) = set(re.findall(r"--recording-pattern '(.+?)'", page))
    for part in range(2):
        rows = []
        for i in range(3):
            name = f"talk_SLASH_a.b_DOT_mp3_{3 * part + i:05d}.flac"
            clip = {"bytes": audio(1600 + i), "path": name}
            rows.append({"id": name, "audio": clip, "duration_ms": 100, "text": f"part {part}"})
        write_parquet(tmp_path / "clean" / f"train-{part:05d}-of-00002.parquet", rows)
    out = tmp_path / "shards"
    settings = {"split": "train", "recording_pattern": pattern, "workers": 0}
    shard.run(shard.ShardSettings(source=str(tmp_path / "clean"), out=out, **settings))
    clips = [
        clip
        for listed in read_manifest(out / "manifest.jsonl")
        for clip in read_shard((out / listed.url).open("rb"), listed, listed.url)
        if isinstance(clip, Clip)
    ]
    assert [clip.key for clip in clips] == [f"talk_SLASH_a.b_DOT_mp3_{i:05d}" for i in range(6)]
    assert {clip.recording for clip in clips} == {"talk_SLASH_a.b_DOT_mp3"}
