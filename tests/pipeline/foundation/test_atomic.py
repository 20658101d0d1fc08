import signal
import subprocess
import sys
import time

import pytest

from pipeline.foundation import atomic


def test_content_arrives_and_nothing_else_stays(tmp_path):
    atomic.write_json(tmp_path / "new" / "a.json", {"π": [1, None]})
    assert (
        tmp_path / "new" / "a.json"
    ).read_text() == '{\n  "\\u03c0": [\n    1,\n    null\n  ]\n}\n'
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "a"
    atomic.write_text(path, "old")

    def fail_half_way():
        with atomic.replaced(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_not_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "a", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_a_torn_file_while_writers_are_killed(tmp_path):
    path = tmp_path / "a"
    size = 3_000_000
    code = (
        "import sys; from pathlib import Path; from pipeline.foundation.atomic import write_bytes\n"
        f"while True:\n  for c in b'xyz': write_bytes(Path(sys.argv[1]), bytes([c]) * {size})\n"
    )
    for delay in (0.15, 0.25, 0.4):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        until = time.monotonic() + 5
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.01)
        end = time.monotonic() + delay
        while time.monotonic() < end:
            content = path.read_bytes()
            assert len(content) == size
            assert len(set(content)) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    content = path.read_bytes()
    assert len(content) == size
    assert len(set(content)) == 1


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    atomic.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
