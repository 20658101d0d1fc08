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
