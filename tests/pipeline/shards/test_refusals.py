"""One list of reasons: every one is used, and nothing is refused for another."""

import ast
from pathlib import Path

import pytest

from pipeline.shards.refusals import Reason, Refusal, RefusedError

ROOT = Path(__file__).parents[3]
SOURCES = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])


def trees():
    return [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]


def test_every_reason_is_used_and_says_what_it_means():
    used = {
        node.attr
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
    }
    assert used == set(Reason.__members__)
    (listed,) = [
        node
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "Reason"
    ]
    body = listed.body[1:]
    assert len(body) == 2 * len(Reason)
    for name, text in zip(body[::2], body[1::2], strict=True):
        assert isinstance(name, ast.Assign)
        assert isinstance(text, ast.Expr)
        assert isinstance(text.value, ast.Constant)


def test_no_reason_stands_in_the_code_as_mere_text():
    reasons = set(Reason)
    for path, tree in zip(SOURCES, trees(), strict=True):
        if path.name == "refusals.py":
            continue
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not texts & reasons, path


def test_a_refusal_is_only_made_for_a_reason_of_the_list():
    for tree in trees():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in ("Refusal", "RefusedError"):
                reason = ast.unparse(node.args[0])
                assert reason.startswith("Reason.") or reason in ("reason", "refused.reason")


def test_records_have_the_fields_of_what_they_are_of():
    of_tar = Refusal(Reason.TOO_LONG, "over 15 s", "a", 3)
    assert list(of_tar.record().items()) == [
        ("position", 3),
        ("key", "a"),
        ("reason", "too long"),
        ("detail", "over 15 s"),
    ]
    of_entry = Refusal(Reason.MISSING_TEXT, "no transcript", "a", where="t.csv, line 2")
    assert list(of_entry.record()) == ["key", "reason", "detail", "where"]
    assert Refusal.from_record(of_tar.record(), "position") == of_tar
    assert Refusal.from_record(of_entry.record(), "where") == of_entry
    unknown = {**of_tar.record(), "key": None, "reason": "of an earlier version"}
    assert Refusal.from_record(unknown, "position").record() == unknown


@pytest.mark.parametrize(
    "change",
    [{"position": True}, {"position": "3"}, {"key": 1}, {"reason": None}, {"detail": 1.5}],
)
def test_what_is_no_refusal_is_not_read_as_one(change):
    record = {"position": 3, "key": None, "reason": "too long", "detail": "", **change}
    with pytest.raises(ValueError, match="not a refusal"):
        Refusal.from_record(record, "position")


@pytest.mark.parametrize("record", [None, [], "x", {}, {"position": 3}])
def test_anything_but_a_record_is_no_refusal(record):
    with pytest.raises(ValueError, match="not a refusal"):
        Refusal.from_record(record, "position")


def test_an_error_says_its_detail():
    error = RefusedError(Reason.EMPTY_AUDIO, "no samples")
    assert (str(error), error.reason) == ("no samples", "empty audio")
