"""The layouts that a command names are those that there are."""

from typing import get_args

from pipeline.shards.corpora import Layout
from pipeline.shards.layouts.registry import LAYOUTS


def test_every_layout_can_be_named():
    assert set(LAYOUTS) < set(get_args(Layout))
    assert len({layout.description for layout in LAYOUTS.values()}) == len(LAYOUTS)


def test_an_empty_folder_has_none(tmp_path):
    assert not any(layout.is_at(tmp_path) for layout in LAYOUTS.values())
    (tmp_path / "sub").mkdir()
    assert not any(layout.is_at(tmp_path) for layout in LAYOUTS.values())
    assert not any(layout.is_at(tmp_path / "none") for layout in LAYOUTS.values())
