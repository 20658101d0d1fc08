"""The walls of the house: which room may import which, and nothing runs back or in a circle.

Between rooms the table below is exact: an import that it does not allow fails, and so does an
entry that no import needs any more. Stages stand over all rooms; only `stages.cli`, and the stages
that are made of others, import stages.
"""

import ast
import graphlib
import re
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
ALLOWED = {
    "foundation": set(),
    "shards": {"foundation"},
    "cache": {"foundation", "shards"},
    "cluster": {"foundation", "cache"},
    "extraction": {"foundation", "shards", "cache", "cluster", "models"},
    "models": {"foundation"},
    "corpus": {"foundation", "cache", "models"},
    "training": {"foundation", "models"},
    "distillation": {"foundation", "cache", "corpus", "models", "training"},
    "pretraining": {"foundation", "cache", "corpus", "models", "training"},
    "tasks": {"foundation", "shards", "cache", "corpus", "models"},
    "finetuning": {
        "foundation",
        "cache",
        "cluster",
        "corpus",
        "models",
        "tasks",
        "training",
    },
    "reports": {"foundation", "tasks", "finetuning"},
}
"""The rooms, and the rooms that each of them imports."""

MADE_OF_STAGES = ("demo", "slurm", "slurm_pretrain", "slurm_steps")
MODULES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/**/*.py")])


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def arrows() -> dict[tuple[str, str], list[str]]:
    """The files behind each import from one room to another."""
    between: dict[tuple[str, str], list[str]] = {}
    for path in ROOT.glob("pipeline/*/**/*.py"):
        room = path.relative_to(ROOT).parts[1]
        others = {name.split(".")[1] for name in imports(path) if name.startswith("pipeline.")}
        for other in others - {room}:
            between.setdefault((room, other), []).append(str(path.relative_to(ROOT)))
    return between


def test_there_is_something_to_check():
    assert len(MODULES) > 100


def test_the_rooms_are_those_of_the_table():
    assert {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")} == set(ALLOWED)
    assert [path.name for path in ROOT.glob("pipeline/*.py")] == ["__init__.py"]


def test_rooms_import_what_the_table_allows_and_nothing_else():
    allowed = {(room, other) for room, others in ALLOWED.items() for other in others}
    too_many = {arrow: files for arrow, files in arrows().items() if arrow not in allowed}
    assert too_many == {}


def test_every_entry_of_the_table_is_needed():
    needed = set(arrows())
    assert {
        (r, o) for r, others in ALLOWED.items() for o in others if (r, o) not in needed
    } == set()


def test_each_room_says_what_it_is_for_and_what_it_imports():
    for room, others in ALLOWED.items():
        text = ast.get_docstring(ast.parse((ROOT / "pipeline" / room / "__init__.py").read_text()))
        assert text
        told = set(re.findall(r"`(\w+)`", text.partition("imports ")[2]))
        assert told == others, f"pipeline/{room}/__init__.py"


def test_no_circle_runs_through_files():
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    graph = {name: imports(path) & set(named) for name, path in named.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_fine_tuning_and_what_all_tasks_share_know_no_task_by_name():
    general = [*ROOT.glob("pipeline/finetuning/*.py"), *ROOT.glob("pipeline/tasks/*.py")]
    for path in general:
        assert not {name for name in imports(path) if name.startswith("pipeline.tasks.mosei")}, path
        assert not {name for name in imports(path) if name.startswith("pipeline.tasks.planted")}


def test_the_two_stages_meet_in_the_cache_alone():
    second = {"corpus", "distillation", "pretraining", "training"}  # models know of neither stage
    reached, before = set(second), set()
    while reached != before:
        before, reached = reached, reached | {o for room in reached for o in ALLOWED[room]}
    assert "extraction" not in reached
    assert not ALLOWED["extraction"] & second


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_never_run_back_or_sideways(path):
    found = imports(path)
    if path.is_relative_to(ROOT / "pipeline"):
        assert not {name for name in found if name.split(".")[0] == "stages"}
    elif path.stem not in ("cli", *MADE_OF_STAGES):
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
