"""The walls of the house: imports run cli → stages → pipeline, never back, never sideways."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "ctranslate2",
    "h5py",
    "librosa",
    "matplotlib",
    "numpy",
    "safetensors",
    "scipy",
    "sklearn",
    "soundfile",
    "tokenizers",
    "torch",
    "transformers",
    "webdataset",
    "zarr",
}
MODULES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/**/*.py")])


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def test_there_is_something_to_check():
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_never_run_back_or_sideways(path):
    found = imports(path)
    if path.is_relative_to(ROOT / "pipeline"):
        assert not {name for name in found if name.split(".")[0] == "stages"}
    elif path.stem not in ("cli", "demo", "slurm"):  # the last two are made of the other stages
        assert not {name for name in found if name.startswith("stages.")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("stages/*.py")), ids=lambda p: p.name)
def test_stages_import_nothing_heavy_before_they_run(path):
    light = imports(path, top_level_only=True)
    assert not {name for name in light if name.split(".")[0] in HEAVY}
    for name in light:
        module = ROOT / (name.replace(".", "/") + ".py")
        if module.is_file() and name.startswith("pipeline."):
            heavy = {m for m in imports(module, top_level_only=True) if m.split(".")[0] in HEAVY}
            assert not heavy, f"{path.name} imports {name}, which imports {heavy}"
