"""What tests lean on holds on machines of other kinds, and at any pace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import processes
from tests.helpers.instants import HOLDS, hold_where_asked
from tests.helpers.job_scripts import begun, make_stubs


@pytest.mark.parametrize("lowest", [1_024, 9_000, 16_000, 32_768, 49_152])
def test_ports_are_to_be_had_wherever_those_begin_that_the_system_gives(monkeypatch, lowest):
    monkeypatch.setattr(processes, "_lowest_given", lambda: lowest)
    assert len(set(processes.free_ports(3))) == 3
    ports = processes._in_any_order(lowest)
    assert min(ports) >= 1_024
    assert max(ports) < 65_536
    assert lowest == 1_024 or max(ports) < lowest


def test_a_rule_that_is_taken_back_meanwhile_undoes_no_other(tmp_path, monkeypatch):
    read_text, rules = Path.read_text, []
    for name in ("one", "gone", "other"):
        (tmp_path / f"{name}.json").write_text(json.dumps(["open", name, 1]))

    def read(path):
        if path.name == "gone.json":
            path.unlink()
        return read_text(path)

    monkeypatch.setenv(HOLDS, str(tmp_path))
    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr("tests.helpers.instants.signal_at", lambda *rule: rules.append(rule[1]))
    hold_where_asked()
    assert sorted(rules) == ["one", "other"]


def test_a_stage_has_begun_when_its_words_are_there(tmp_path):
    assert not begun(tmp_path)
    (tmp_path / "told.jsonl").touch()
    assert not begun(tmp_path)
    stubs = make_stubs(tmp_path / "stubs")
    environment = {**os.environ, "ENDS": "0"}
    subprocess.run(
        [sys.executable, stubs / "speechkd", "x"], cwd=tmp_path, env=environment, check=True
    )
    assert begun(tmp_path) == [["x"]]


BURNS = "import time\nwhile time.process_time() < 0.5: pass"
WAITS = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"


def test_seconds_of_a_command_are_without_those_of_other_children(tmp_path):
    def burn():
        subprocess.run([sys.executable, "-c", BURNS], check=True)
        (tmp_path / "burnt").touch()

    other = processes.Beside(burn)
    done, seconds = processes.run_and_time([sys.executable, "-c", WAITS, str(tmp_path / "burnt")])
    other.ended_well()
    assert done.returncode == 0
    assert 0 < seconds < 0.5


def test_seconds_of_a_command_are_with_those_of_its_own_children():
    both = (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])\nsys.exit(3)"
    )
    done, seconds = processes.run_and_time([sys.executable, "-c", both, BURNS])
    assert done.returncode == 3
    assert seconds >= 0.5


def test_what_runs_beside_a_test_fails_it():
    def fail():
        raise ValueError("it has failed")

    with pytest.raises(ValueError, match="it has failed"):
        processes.Beside(fail).ended_well()
