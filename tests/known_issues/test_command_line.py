"""Failures that once were tracebacks, or no failures at all, on the command line."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.foundation.errors import SpeechkdError
from tests.helpers.processes import wait_for_end

ROOT = Path(__file__).parent.parent.parent


def speechkd(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "stages.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("shard", "", "--out", "o"),
        ("shard", "tests", "--out", ""),
        ("extract-teacher", "", "--cache", "c"),
        ("extract-teacher", "m.jsonl", "--cache", ""),
        ("report", "", "--out", "o"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments):
    done = speechkd(*arguments)
    assert done.returncode in (1, 2)
    assert "is empty; is a variable of your script unset?" in " ".join(done.stderr.split())


def test_a_file_where_a_folder_is_meant_is_a_message(tmp_path):
    (tmp_path / "file").write_text("x")
    done = speechkd("distill", str(tmp_path / "file"), "--out", str(tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    done = speechkd("report", str(tmp_path / "file"), "--out", str(tmp_path / "report"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_version_is_printed():
    assert speechkd("--version").stdout.strip() == version("speechkd")


def test_ctrl_c_says_what_to_do(tmp_path):
    code = (
        "import os, signal, typer\n"
        "from dataclasses import dataclass\n"
        "from pipeline.foundation.settings import Settings\n"
        "from stages import options\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Nothing(Settings): pass\n"
        "app = typer.Typer()\n"
        "options.register(app, 'wait', Nothing, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        # a shell starts what it puts into the background with Ctrl-C ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "app([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert "the same command carries on" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_the_command_is_still_being_imported_ends_it_as_later():
    code = (
        "import builtins, os, signal\n"
        "real = builtins.__import__\n"
        "def at_typer(name, *rest):\n"
        "    if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = at_typer\n"
        "from stages.cli import main\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_importing_the_commands_leaves_ctrl_c_as_it_was():
    code = (
        "import signal; before = signal.getsignal(signal.SIGINT); import stages.cli; "
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import multiprocessing, time\n"
        "from pipeline.foundation.workers import begin_worker\n"
        "def work(pids):\n"
        "    import os; begin_worker(); pids.put(os.getpid()); time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('forkserver'); pids = context.Queue()\n"
        "    context.Process(target=work, args=(pids,)).start()\n"
        "    print(pids.get(), flush=True); time.sleep(600)\n"
    )
    (tmp_path / "parent.py").write_text(code, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for_end(worker)


@pytest.mark.parametrize(
    "arguments",
    [
        ("shard", "tests", "--out", "o", "--samples-per-shard", "9" * 23),
        ("distill", "c", "--out", "o", "--seed", "9" * 26),
        ("distill", "c", "--out", "o", "--epochs", "1e300"),
    ],
)
def test_absurd_numbers_are_refused(arguments):
    done = speechkd(*arguments)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert arguments[-2] in done.stderr


def test_a_range_of_seeds_that_cannot_be_meant_is_refused_at_once():
    from pipeline.foundation.seeds import parse_seeds

    with pytest.raises(SpeechkdError, match="over 10,000 seeds"):
        parse_seeds("0-99999999999")
