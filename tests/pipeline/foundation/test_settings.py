from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, digest, setting


@dataclass(frozen=True, kw_only=True)
class Baking(Settings):
    recipe: Path = setting(help="Recipe.", argument=True)
    degrees: float = setting(180.0, help="Heat.", unit="C", minimum=50, maximum=300, origin="paper")
    rack: Literal["low", "high"] = setting("low", help="Rack.", origin="assumed")
    toppings: list[Literal["nuts", "ice"]] = setting([], help="On top.")
    minutes: float | None = setting(None, help="Time.", minimum=1)

    def check(self):
        if self.rack == "high" and self.degrees > 250:
            raise SpeechkdError("too hot up there")


def test_record_and_back():
    baking = Baking(recipe=Path("a/b"), toppings=["nuts"], minutes=12.5)
    record = baking.record()
    assert record["recipe"] == "a/b"
    assert Baking.from_record(record, "run.json") == baking


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"degrees": 20.0}, "--degrees is 20.0; it must be at least 50"),
        ({"degrees": 999.0}, "--degrees is 999.0; it must be at most 300"),
        ({"degrees": float("nan")}, "--degrees is nan; it must be a finite number"),
        ({"rack": "middle"}, "--rack is 'middle'; it must be one of: low, high"),
        ({"toppings": ["nuts", "mud"]}, "--toppings is 'mud'"),
        ({"minutes": 0.5}, "--minutes is 0.5"),
        ({"rack": "high", "degrees": 280.0}, "too hot up there"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values, message):
    with pytest.raises(SpeechkdError, match=message):
        Baking(recipe=Path("r"), **values)


def test_an_unknown_key_is_an_error():
    with pytest.raises(SpeechkdError, match=r"run\.json: unknown setting degress"):
        Baking.from_record({"recipe": "r", "degress": 180}, "run.json")


def test_assumed_lists_only_defaults_that_the_paper_does_not_state():
    assert Baking(recipe=Path("r")).assumed() == {"rack": "low"}
    assert Baking(recipe=Path("r"), rack="high").assumed() == {}


def test_digest_depends_on_content_not_on_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
