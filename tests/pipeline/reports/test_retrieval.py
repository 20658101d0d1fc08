"""Retrieval in a report: read from the runs that recorded it, and from nothing else."""

import json

import pytest

from pipeline.foundation.errors import Damaged
from pipeline.models.pretrained import Pretrained
from pipeline.reports.retrieval import HEADER, retrieval

FOUND = {
    "queries": 20, "candidates": 11.0, "r1": 0.25, "r10": 0.95, "median_rank": 3.5,
    "chance_r1": 1 / 11, "chance_r10": 10 / 11, "chance_median_rank": 6.0,
}  # fmt: skip
WAY = "audio to text, across recordings"


def encoder(source, label="mm"):
    return Pretrained(label, str(source), "mlm with mmc", "real", 0, 10, "0" * 64)


def save(folder, **record):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"settings": {}, **record}))
    return folder


def test_a_line_per_encoder_and_way_beside_chance_and_lengths(tmp_path):
    alone = {"mmc": {"retrieval": {WAY: {**FOUND, "r1": 0.1, "r10": 0.5}}}}
    run = save(tmp_path / "a", retrieval={WAY: FOUND, "within": None}, length_only=alone)
    bare = save(tmp_path / "b", retrieval={WAY: FOUND})
    (section,) = retrieval([encoder(run), encoder(bare, "other")])
    assert section.grid[0] == HEADER
    assert section.grid[1] == (
        "mm", WAY, "25.0 % (chance 9.1 %)", "95.0 % (chance 90.9 %)", "3.5 (chance 6)", "11",
        "10.0 %", "50.0 %",
    )  # fmt: skip
    assert section.grid[2][0] == "other"
    assert section.grid[2][-2:] == ("–", "–")
    assert len(section.grid) == 3


def test_runs_without_it_and_encoders_without_a_run_give_no_section(tmp_path):
    run = save(tmp_path / "a")
    others = ["bert-base-cased", "x" * 5000, str(tmp_path / "nowhere"), str(run)]
    assert retrieval([encoder(source) for source in others]) == []


@pytest.mark.parametrize("record", [{"retrieval": {WAY: {"r1": 1}}}, {"retrieval": {WAY: [1]}}])
def test_a_record_of_another_form_is_told(tmp_path, record):
    with pytest.raises(Damaged, match="not of the form"):
        retrieval([encoder(save(tmp_path / "a", **record))])


def test_a_torn_record_is_told(tmp_path):
    save(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"retrieval": ')
    with pytest.raises(Damaged, match="not the record of a run"):
        retrieval([encoder(tmp_path / "a")])
