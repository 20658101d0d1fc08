"""Code and pages name the same versions, and the table of those tested says what is known."""

import importlib.util
import itertools
import json
import re
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pipeline.foundation.gpus import DRIVERS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def versions():
    """The program `.ci/versions` as a module."""
    loader = SourceFileLoader("versions", str(ROOT / ".ci" / "versions"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("versions", loader))
    loader.exec_module(module)
    return module


def lower_limit(name: str) -> str:
    wanted = next(r for r in map(Requirement, PROJECT["dependencies"]) if r.name == name)
    return next(part.version for part in wanted.specifier if part.operator == ">=")


def pinned(name: str) -> str:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{name}==(\S+)$", constraints, flags=re.M)[1]


def result(torch: str, transformers: str, **counts: int) -> dict:
    status = int("failed" in counts or not counts)
    versions = {"torch": torch, "transformers": transformers, "python": "3.11.7"}
    return {**versions, "commit": "0123456789", "status": status, "counts": counts}


def test_the_versions_tested_reach_from_the_oldest_supported_to_the_one_installed(versions):
    assert versions.TORCH[0] == lower_limit("torch")
    assert pinned("torch").startswith(f"{versions.TORCH[-1]}.")
    assert versions.TRANSFORMERS[0].startswith(f"{lower_limit('transformers')}.")


def test_every_package_that_is_asked_for_stands_with_its_licence():
    extras = PROJECT["optional-dependencies"].values()
    wanted = map(Requirement, [*PROJECT["dependencies"], *itertools.chain(*extras)])
    licences = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (\S+) \|", licences, flags=re.M))
    assert {canonicalize_name(package.name) for package in wanted} - listed == set()


def test_makefile_image_constraints_and_page_name_one_torch_and_one_cuda():
    torch = pinned("torch")
    assert f"TORCH ?= torch=={torch}\n" in MAKEFILE
    assert f"| torch | {lower_limit('torch')} and newer | {torch} |" in PAGE
    row = f"| transformers | {lower_limit('transformers')} and newer, below 6 |"
    assert f"{row} {pinned('transformers')} |" in PAGE
    driver = re.search(r"^CUDA13_DRIVER := (\d+)$", MAKEFILE, flags=re.M)[1]
    assert int(driver) == DRIVERS[13]
    assert f"CUDA 12 needs {DRIVERS[12]}" in PAGE
    assert f"| {driver} or newer | pip's | `default` |" in PAGE


def test_pips_builds_are_for_the_cuda_that_page_image_and_makefile_say():
    """By the sentence of the page, which the builds of its table, `+cu128` say, must bear out."""
    words = r"for CUDA (\d+)\.\d+ up\s+to torch (\S+), and for CUDA (\d+) from torch (\S+) on"
    old_cuda, last_old, new_cuda, first_new = re.search(words, PAGE).groups()
    assert re.findall(r"^ARG CUDA=(\d+)$", DOCKERFILE, flags=re.M) == [new_cuda] * 2
    assert Version(pinned("torch")) >= Version(first_new)
    older = f"torch=={last_old}.0"
    assert f'[ "$CUDA" = {old_cuda} ]; then TORCH="${{TORCH:-{older}}}"' in DOCKERFILE
    assert f"TORCH={older} TORCH_BACKEND=default (pip's build of it is for\" \\\n" in MAKEFILE
    assert f'"CUDA {old_cuda})' in MAKEFILE
    for torch, cuda in re.findall(r"^\| (\d\S+)\+cu(\d+)\d \|", PAGE, flags=re.M):
        assert cuda == (new_cuda if Version(torch) >= Version(first_new) else old_cuda), torch


def test_the_table_says_not_run_where_nothing_is_known(versions):
    lines = versions.table([result("2.13.0+cpu", "5.24.0", passed=9, skipped=1)]).splitlines()
    assert lines[0] == "| torch | transformers 5.17.0 | transformers 5.24.0 |"
    assert lines[2] == "| 2.9 | not run | not run |"
    assert lines[6] == "| 2.13.0+cpu | not run | 9 passed, 1 skipped |"
    assert lines[7:] == ["", "Tested: commit 0123456789, Python 3.11.7."]


def test_a_later_result_counts_and_a_minor_version_is_not_the_start_of_another(versions):
    first = result("2.10.0", "5.17.0", failed=3, passed=6)
    lines = versions.table([first, result("2.10.0", "5.17.0", passed=9)]).splitlines()
    assert "| 2.10.0 | 9 passed |" in lines
    assert "| 2.9 | not run |" in lines
    broken = versions.table([result("2.9.1", "5.17.0")])
    assert "| 2.9.1 | pytest did not get through (status 1) |" in broken


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("...\n476 passed, 4 skipped, 2 deselected in 140.07s\n", {"passed": 476, "skipped": 4}),
        ("FAILED a::b - 3 passed\n1 failed, 2 passed in 3s\n", {"failed": 1, "passed": 2}),
        ("2 errors in 0.10s\n", {"error": 2}),
        ("Killed\n", {}),
        ("", {}),
    ],
)
def test_the_counts_are_those_of_pytests_last_line(versions, output, wanted):
    assert versions.counts(output) == wanted


def test_results_are_kept_and_the_table_of_the_page_is_renewed(versions, tmp_path, monkeypatch):
    """The whole program, with made-up environments: two pairs now, one pair later."""
    page = tmp_path / "page.md"
    page.write_text(f"head\n\n{versions.MARK}\n\nan old table\n", encoding="utf-8")
    installed = {}
    monkeypatch.setattr(versions, "PAGE", page)
    monkeypatch.setattr(versions, "environment", lambda _, torch: torch)
    monkeypatch.setattr(versions, "put_transformers", lambda e, text: installed.update({e: text}))
    monkeypatch.setattr(
        versions,
        "tested",
        lambda e: result(f"{e}.0", installed[e].replace("newest", "5.24.0"), passed=1),
    )

    def run(*words: str) -> int:
        monkeypatch.setattr(versions.sys, "argv", ["versions", str(tmp_path / "folder"), *words])
        return versions.main()

    assert run("--torch", "2.9") == 0
    assert "an old table" in page.read_text(encoding="utf-8")
    assert run("--torch", "2.13", "--transformers", "newest", "--write") == 0
    stored = json.loads((tmp_path / "folder" / "results.json").read_text(encoding="utf-8"))
    assert [(r["torch"], r["transformers"]) for r in stored] == [
        ("2.9.0", "5.17.0"), ("2.9.0", "5.24.0"), ("2.13.0", "5.24.0"),
    ]  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"head\n\n{versions.MARK}\n\n| torch |")
    assert "an old table" not in text
    assert "| 2.13.0 | not run | 1 passed |" in text


def test_a_failure_is_the_programs_status(versions, tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "environment", lambda _, torch: torch)
    monkeypatch.setattr(versions, "put_transformers", lambda *_: None)
    monkeypatch.setattr(versions, "tested", lambda e: result(f"{e}.0", "5.17.0", failed=1))
    words = ["versions", str(tmp_path), "--torch", "2.9", "--transformers", "5.17.0"]
    monkeypatch.setattr(versions.sys, "argv", words)
    assert versions.main() == 1
