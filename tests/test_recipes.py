"""The page of recipes: every command is one that its stage takes, and its figures are computed."""

import re
import shlex
from pathlib import Path

import pytest

from bench import recipes
from pipeline.foundation.errors import SpeechkdError
from pipeline.pretraining.splat.costs import clip_flops
from stages import cli
from stages.options import parse
from tests.test_docs import handed_on, refusal

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
ENCODERS = "--checkpoint runs/none-0 --checkpoint runs/crd-0"


def lines() -> list[str]:
    """The commands of all recipes, those of a loop for one seed."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.M | re.S)
    text = re.sub(r"\$\(printf [^)]*\)", ENCODERS, "".join(blocks)).replace("$seed", "0")
    return [line.strip() for line in text.splitlines() if "speechkd " in line]


def settings_of(line: str) -> object:
    """The settings with which a command would run, checked by themselves."""
    words = shlex.split(line)[1:]
    for stage in vars(cli).values():
        for name, (settings, _) in getattr(stage, "COMMANDS", {}).items():
            parts = name.split()
            if words[: len(parts)] == parts:
                return parse(name, settings, words[len(parts) :])
    raise SpeechkdError(f"no command {line}")


@pytest.mark.parametrize("line", lines(), ids=lambda line: line[:60])
def test_every_command_of_a_recipe_is_taken(line):
    assert settings_of(line)
    assert [said for words in handed_on(shlex.split(line)[1:]) if (said := refusal(words))] == []


def test_a_line_that_a_command_refuses_is_noticed():
    with pytest.raises(SpeechkdError):
        settings_of("speechkd distill cache --out r --kd none --temperature hot")
    with pytest.raises(SpeechkdError):
        settings_of("speechkd distil cache --out r")
    with pytest.raises(SpeechkdError, match="no multiple"):
        settings_of("speechkd pretrain masked-audio mels --out r --width 10 --heads 3")


def test_each_recipe_has_a_twin_without_a_teacher_and_a_control():
    for part in PAGE.split("\n## ")[2:5]:
        told = part.replace("none,crd", "--kd none --kd crd").replace("real,shuffled", "shuffled")
        assert "--kd none" in told
        assert "--control shuffled" in told


def test_the_page_has_the_table_that_the_bench_prints():
    assert recipes.table() in PAGE


def test_the_rates_that_it_rests_on_stand_on_the_page_of_measurements():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert (
        f"| **the whole of `extract-teacher`** | **{recipes.TINY_AUDIO_SECONDS_PER_S}** |" in page
    )
    assert f"| **`distill --kd none`** | **{recipes.BASE_TOKENS_PER_S}** |" in page
    speech = (ROOT / "data_manifests" / "peoples_speech.md").read_text(encoding="utf-8")
    assert f"{recipes.TARS_HOURS:,} h" in speech
    assert f"about {recipes.TARS_GB} GB" in speech


def test_a_teacher_takes_time_in_proportion_to_its_operations():
    small, tiny = recipes.RECIPES[1], recipes.RECIPES[0]
    seconds = [recipes.cpu_seconds(one)[0] / one.hours for one in (small, tiny)]
    shapes = [one.shape.flops(1500) for one in (small, tiny)]
    assert seconds[0] / seconds[1] == pytest.approx(shapes[0] / shapes[1])
    assert seconds[1] == pytest.approx(3600 / 71)


def test_four_frames_in_one_position_take_a_fifth_of_the_operations():
    sizes = {"layers": 3, "width": 768, "inner": 3072}
    stacked, single = clip_flops(375, stacked=320, **sizes), clip_flops(1500, stacked=80, **sizes)
    assert stacked / single == pytest.approx(1 / 5, rel=0.1)
    assert "a fifth of SPLAT's operations" in PAGE
