"""What an installation brings: every package, and the files beside the code."""

import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "setuptools"
]


def test_every_folder_with_code_is_a_package_that_is_installed():
    packages = set(find_packages(str(ROOT), **SETUPTOOLS["packages"]["find"]))
    code = {path.parent for top in ("pipeline", "stages") for path in ROOT.glob(f"{top}/**/*.py")}
    assert packages == {".".join(folder.relative_to(ROOT).parts) for folder in code}


def test_files_that_are_no_code_are_installed_too():
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package}: {pattern}"
    others = {path for path in ROOT.glob("stages/*") if path.suffix not in (".py", "")}
    assert others == set(ROOT.glob("stages/*.sbatch"))
