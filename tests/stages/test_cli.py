"""The command line: light help with every setting, errors in one message, old names refused."""

import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer
from click.testing import CliRunner

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting
from stages import cli
from stages.doctor import DoctorSettings
from stages.options import register
from tests.helpers.processes import run_and_time

COMMANDS = {
    ("shard",): "shard",
    ("extract-teacher",): "extract_teacher",
    ("distill",): "distill",
    ("finetune", "mosei"): "finetune_mosei",
    ("finetune", "table"): "finetune_table",
    ("mosei", "convert"): "mosei_convert",
    ("probe", "blimp"): "probe_blimp",
    ("report",): "report",
    ("demo",): "demo",
    ("doctor",): "doctor",
    ("slurm", "all"): "slurm",
    ("slurm", "status"): "slurm",
}


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "stages.cli", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1"},
        cwd=cli.__file__.rpartition("/stages/")[0],
        check=False,
    )


def test_help_imports_nothing_heavy_and_answers_at_once():
    code = (
        "import sys; sys.argv = ['speechkd', '--help']\n"
        "from stages.cli import main\n"
        "try: main()\n"
        "finally: print('HEAVY', sorted({'torch', 'transformers', 'zarr', 'numpy', 'librosa'}"
        " & set(sys.modules)))"
    )
    done, processor_seconds = run_and_time([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    # 0.5 s is the promise on a quiet machine; an import of torch alone takes several times this.
    assert processor_seconds < 1.5


@pytest.mark.parametrize("words", COMMANDS)
def test_every_setting_is_in_its_commands_help(words):
    done = run(*words, "--help")
    assert done.returncode == 0, done.stderr
    root = typer.main.get_command(cli.app)
    command = root
    for word in words:
        command = command.commands[word]
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            assert max(parameter.opts, key=len) in done.stdout
            assert parameter.help, f"{words}: {parameter.name} says nothing of itself"


def test_every_stage_is_on_the_command_line():
    files = Path(cli.__file__).parent.glob("*.py")
    stages = {file.stem for file in files} - {
        *("__init__", "cli", "options", "slurm_pretrain", "slurm_steps")
    }
    assert stages == {stage.__name__.removeprefix("stages.") for stage in cli.STAGES}
    for stage in cli.STAGES:
        for words, (settings, _) in stage.COMMANDS.items():
            command = typer.main.get_command(cli.app)
            for word in words.split():
                command = command.commands[word]
            assert {field.name for field in fields(settings)} <= {p.name for p in command.params}


def test_defaults_say_where_they_come_from():
    text = re.sub(r"[\s│]+", " ", run("distill", "--help").stdout)
    assert "The paper's." in text
    assert "Assumed: the paper is silent." in text


def test_every_field_is_declared_with_setting():
    import importlib

    for words, module in COMMANDS.items():
        stage = importlib.import_module(f"stages.{module}")
        found = [
            value
            for value in vars(stage).values()
            if isinstance(value, type) and issubclass(value, Settings) and value is not Settings
        ]
        assert found, words
        for field in (field for settings in found for field in fields(settings)):
            assert field.metadata.get("help"), f"{words}: {field.name}"


def test_a_failure_is_one_message_and_status_1(tmp_path):
    done = run("extract-teacher", str(tmp_path / "none.jsonl"), "--cache", str(tmp_path / "c"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "c").exists()


def test_a_panic_for_want_of_memory_is_one_message(capsys, monkeypatch):
    class PanicException(BaseException):
        pass

    def panic():
        raise PanicException("not initialized: ThreadPoolBuildError")

    monkeypatch.setattr(cli, "app", panic)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: out of memory, or of threads (not init")


def test_room_is_given_back_to_say_what_failed():
    """Memory is taken in small pieces until there is none; the message needs some again."""
    script = """
import resource
from pathlib import Path
from stages import cli

pieces = []

def take():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        pieces.append(bytearray(100))

cli.app = take
cli.main()
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith("error: out of memory. Give the job more memory")


def test_a_lost_process_is_told(capsys, monkeypatch, tmp_path):
    """Killed as it starts it leaves an EOFError, of which typer says "Aborted." and no more."""

    def lost(_):
        raise EOFError

    app = typer.Typer()
    register(app, "doctor", DoctorSettings, lost)
    monkeypatch.setattr("stages.cli.app", app)
    monkeypatch.setattr("sys.argv", ["speechkd", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "error: a process that this command had started is gone" in capsys.readouterr().err


def test_unknown_option_is_refused():
    assert run("distill", "cache", "--no-such-thing").returncode == 2


def test_lists_take_commas_and_repetition():
    taken = []
    app = typer.Typer()

    from dataclasses import dataclass
    from typing import Literal

    from pipeline.foundation.settings import setting

    @dataclass(frozen=True, kw_only=True)
    class Some(Settings):
        tasks: list[Literal["a", "b", "c"]] = setting(["a"], help="Tasks.", flag="--task")

    cli.register(app, "one", Some, lambda settings: taken.append(settings.tasks))
    command = typer.main.get_command(app)
    for arguments in ([], ["--task", "b,c"], ["--task", "b", "--task", "c"]):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
    assert taken == [["a"], ["b", "c"], ["b", "c"]]
    result = CliRunner().invoke(command, ["--task", "z"])
    assert isinstance(result.exception, SpeechkdError)
    assert "a, b, c" in str(result.exception)


def test_numbers_come_with_commas_or_one_by_one():
    taken = []

    @dataclass(frozen=True, kw_only=True)
    class Some(Settings):
        gamma: list[float] = setting([2.5], help="Weights.")

    group = typer.Typer()
    cli.register(group, "one", Some, lambda settings: taken.append(settings.gamma))
    command = typer.main.get_command(group)
    for arguments in ([], ["--gamma", "1,1e2"], ["--gamma", "1", "--gamma", "100"]):
        assert CliRunner().invoke(command, arguments).exit_code == 0
    assert taken == [[2.5], [1.0, 100.0], [1.0, 100.0]]
    for wrong in ("1,x", "1,", ""):
        result = CliRunner().invoke(command, ["--gamma", wrong])
        assert result.exit_code == 2
        assert "is no number" in result.output


def test_an_options_old_name_is_refused_with_the_new_one(capsys):
    @dataclass(frozen=True, kw_only=True)
    class Baking(Settings):
        oven_heat: int = setting(180, help="Heat.", formerly="--heat")

    app, baked = typer.Typer(add_completion=False), []
    register(app, "bake", Baking, baked.append)
    command = typer.main.get_command(app)
    assert CliRunner().invoke(command, ["--oven-heat", "200"]).exit_code == 0
    assert baked == [Baking(oven_heat=200)]
    refused = CliRunner().invoke(command, ["--heat", "200"])
    assert refused.exit_code == 2
    assert "--oven-heat" in refused.output
    assert baked == [Baking(oven_heat=200)]
    assert "--heat " not in CliRunner().invoke(command, ["--help"]).output
