"""The general half of a model card."""

import json

import pytest

from pipeline.training.card import CardWords, card, code, write_loss_curve

WORDS = CardWords(
    title="A cake",
    summary="It is sweet.",
    pipeline_tag="baking",
    tags=("sugar", "flour"),
    usage=("eat(cake)",),
    data=("two eggs",),
    training=("stirred",),
)
RECORD = {
    "settings": {"license": "mit", "language": "", "degrees": 180},
    "plan": {"total_steps": 20},
    "assumed": {"degrees": 180},
    "provenance": {
        "versions": {"torch": "2.0"},
        "git_commit": None,
        "hardware": {"accelerators": [], "machine": "oven", "torch_threads": 2},
    },
    "result": {
        "step": 20, "tokens": 1234, "seconds": 61.0, "outcome": "finished", "skipped": 0,
        "validation": [],
    },
}  # fmt: skip


def test_a_card_joins_what_every_run_says_with_what_the_method_says():
    text = card(RECORD, WORDS)
    assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: baking\nlicense: mit\n")
    assert "language:" not in text
    assert "tags: [sugar, flour]" in text
    for part in (
        "# A cake", "It is sweet.", "```python\neat(cake)\n```", "- two eggs", "- stirred",
        "20 of 20 steps (the whole schedule), 1,234 tokens, 1 min 01 s on oven, 2 threads",
        "nothing was held out", "- `degrees`: 180", "does not state: `degrees`", "- torch 2.0",
        "- commit unknown",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("text", ["`x` [a](b)", "``` <b>", "![p](q)"])
def test_code_can_hold_any_text_and_nothing_in_it_takes_effect(text):
    assert code(text)[0] == code(text)[-1] == "`"
    assert "`" not in code(text)[1:-1]


def test_the_curve_shows_each_loss_but_those_left_out(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    monkeypatch.setattr(Axes, "set", lambda _, title, **__: titles.append(title))
    lines = [{"step": s, "loss/a": 1.0, "loss/b": 2.0, "loss/sum": 3.0} for s in (1, 2)]
    lines.append({"step": 2, "validation/loss/a": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_loss_curve(tmp_path, leave_out=("loss/sum",))
    assert titles == ["a", "b"]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
