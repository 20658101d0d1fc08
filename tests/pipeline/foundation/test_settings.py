"""Settings are checked, recorded and derived by what stands on their fields."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class Baking(Settings):
    recipe: Path = setting(help="Recipe.", argument=True)
    degrees: float = setting(180.0, help="Heat.", unit="C", minimum=50, maximum=300, origin="paper")
    rack: Literal["low", "high"] = setting("low", help="Rack.", origin="assumed")
    toppings: list[Literal["nuts", "ice"]] = setting([], help="On top.")
    minutes: float | None = setting(None, help="Time.", minimum=1, operational=True)

    def check(self):
        if self.rack == "high" and self.degrees > 250:
            raise SpeechkdError("too hot up there")


def test_a_record_is_plain_json():
    baking = Baking(recipe=Path("a/b"), toppings=["nuts"], minutes=12.5)
    record = baking.record()
    assert json.loads(json.dumps(record)) == record
    assert record["recipe"] == "a/b"
    assert record["toppings"] == ["nuts"]


@dataclass(frozen=True)
class Oven:
    degrees: float
    rack: str
    gas: bool


def test_a_part_takes_the_settings_of_the_same_names():
    baking = Baking(recipe=Path("r"), degrees=200.0, rack="high")
    assert baking.part(Oven, gas=True) == Oven(200.0, "high", True)
    assert baking.part(Oven, gas=False, rack="low") == Oven(200.0, "low", False)


def test_a_part_with_a_field_that_is_no_setting_is_a_defect():
    with pytest.raises(AttributeError, match="gas"):
        Baking(recipe=Path("r")).part(Oven)


def test_operational_settings_are_marked_on_the_field():
    assert Baking.operational() == {"minutes"}


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


def test_assumed_lists_only_defaults_that_the_paper_does_not_state():
    assert Baking(recipe=Path("r")).assumed() == {"rack": "low"}
    assert Baking(recipe=Path("r"), rack="high").assumed() == {}
