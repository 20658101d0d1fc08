"""The fuzzing targets, briefly: by hypothesis always, by coverage among the slow tests."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, outcome

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = {"cache": 40, "mosei-csd": 60, "receipts": 60, "audio-table": 40}


@st.composite
def mutated(draw, seeds):
    """A good input that is cut, overwritten, doubled in part, or joined to another."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(("overwrite", "insert", "cut", "double", "join", "number"))):
            case "overwrite":
                new = draw(st.binary(max_size=8))
                content[at : at + len(new)] = new
            case "insert":
                content[at:at] = draw(st.binary(max_size=16))
            case "cut":
                del content[at : at + draw(st.integers(1, 64))]
            case "double":
                content[at:at] = content[at : at + draw(st.integers(1, 64))]
            case "join":
                content[at:] = draw(st.sampled_from(seeds))[at:]
            case "number":
                new = draw(st.sampled_from((b"\xff" * 8, b"\0" * 8, b"-1", b"9" * 30, b"1e999")))
                content[at : at + len(new)] = new
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_has_an_answer(name, tmp_path):
    (tmp_path / "seeds").mkdir()
    found = [outcome(TARGETS[name], seed, tmp_path) for seed in TARGETS[name].seeds(tmp_path)]
    assert "read" in found


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutated_input_has_an_answer(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    (folder / "seeds").mkdir()
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES.get(name, 120),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(mutated(target.seeds(folder)))
    def check(content):
        assert outcome(target, content, folder)

    check()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install -e '.[fuzz]'"
)
@pytest.mark.parametrize(("dear", "inputs"), [(False, 1000), (True, 150)])
def test_coverage_finds_no_crash(dear, inputs):
    names = [name for name in TARGETS if (name in EXAMPLES) == dear]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *names, "--inputs", str(inputs), "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{inputs:,} inputs") == len(names)
