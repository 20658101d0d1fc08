"""What other programs and earlier days leave in folders: it is ignored, or refused by name."""

import re
import shutil

import pytest

from tests.faults.sweep import faults_of
from tests.faults.workshop import MOSTLY_SLOW, STAGES

LITTER = {
    ".DS_Store": b"\x00\x00\x00\x01Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "._000000.json": b"\x00\x05\x16\x07",
    ".nfs000000000000001": b"",
    "desktop.ini": b"[.ShellClassInfo]",
    "notes of mine.txt": b"mine",
}
# half-written folders, checkpoints that are dropped for later ones, and the student's own
PASSING_FOLDER = re.compile(r"\.partial|step-|tokenizer|student")
BEGUN = {
    "shard": "receipts/corpus.json",
    "extract-teacher": "zarr.json",
    "cache merge": "zarr.json",
    "distill": "run.json",
    "finetune": "results.json",
}


def every_folder(out):
    return [out, *(path for path in sorted(out.rglob("*")) if path.is_dir())]


def litter(out):
    """Other programs' files in every folder that stays, and a folder of somebody's; what it was."""
    placed = []
    for folder in every_folder(out):
        if PASSING_FOLDER.search(str(folder.relative_to(out))):
            continue
        for name, content in LITTER.items():
            (folder / name).write_bytes(content)
            placed.append(folder / name)
        (folder / "copy of mine").mkdir()
        (folder / "copy of mine" / "a.json").write_text("{}")
        placed.append(folder / "copy of mine" / "a.json")
    return placed


def take_away(placed):
    for path in placed:
        path.unlink()
        if path.name == "a.json":
            path.parent.rmdir()


@pytest.mark.parametrize("name", MOSTLY_SLOW)
def test_litter_in_every_folder_of_a_half_done_output(warm, shop, tmp_path, name):
    """Nothing of it is taken for the command's own, changed or deleted."""
    stage = shop.need(name)
    out = tmp_path / "out"
    running = warm.start(stage.command(out))
    while warm.wait(running, 0.005) is None:
        if name in BEGUN and (out / BEGUN[name]).exists():
            break
    for pid in running.family():
        warm.kill(pid)
    warm.wait(running)
    placed = litter(out) if out.exists() else []
    again = warm.run(stage.command(out))
    assert not faults_of(again, (0,))
    assert all(path.exists() for path in placed)
    take_away(placed)
    assert not shop.check(stage, out)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_litter_in_every_folder_of_the_input(warm, shop, tmp_path, name):
    stage = shop.need(name)
    copies = {}
    words = []
    for word in stage.words:
        if word.startswith(str(shop.folder)):
            part = word.removeprefix(str(shop.folder)).lstrip("/").split("/")[0]
            source = shop.folder / part
            if source.is_dir() and part not in copies:
                copies[part] = tmp_path / "in" / part
                shutil.copytree(source, copies[part])
            if part in copies:
                word = word.replace(str(source), str(copies[part]), 1)
        words.append(word)
    for copy in copies.values():
        litter(copy)
    out = tmp_path / "out"
    running = warm.run([*words, stage.option, str(out), *stage.alternatives[0]])
    assert not faults_of(running, (0,))
    # where an input lies is part of some records; what was computed is not touched by that
    computed = (".tar", ".npy", ".safetensors", ".csv", ".png", "embedding/c/")
    assert not [fault for fault in shop.check(stage, out) if any(c in fault for c in computed)]


@pytest.mark.parametrize("name", MOSTLY_SLOW)
def test_a_file_where_a_folder_is_to_be(warm, shop, tmp_path, name):
    stage = shop.need(name)
    (tmp_path / "out").write_text("a file of mine")
    (tmp_path / "below").write_text("a file of mine")
    for out in (tmp_path / "out", tmp_path / "below" / "out"):
        assert not faults_of(warm.run(stage.command(out)))
    assert (tmp_path / "out").read_text() == "a file of mine"
    for part in [p for p in sorted(stage.reference.rglob("*")) if p.is_dir()]:
        if part.parent == stage.reference:
            folder = tmp_path / f"inside-{part.name}"
            folder.mkdir()
            (folder / part.name).write_text("a file of mine")
            running = warm.run(stage.command(folder))
            assert not faults_of(running)
            assert (folder / part.name).read_text() == "a file of mine"


@pytest.mark.parametrize("name", MOSTLY_SLOW)
def test_a_folder_of_something_else_is_left_alone(warm, shop, tmp_path, name):
    stage = shop.need(name)
    other = tmp_path / "out"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    (other / "manifest.jsonl").write_text("mine too")
    running = warm.run(stage.command(other))
    assert not faults_of(running, (0, 1))
    assert (other / "thesis.tex").read_text() == "mine"
    assert (other / "manifest.jsonl").read_text() == "mine too"
