"""docs/encoders.md says of each kind what comes out of the check."""

import re

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from bench import encoders

PAGE = encoders.PAGE.read_text(encoding="utf-8")
LINES = {
    line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:4]]
    for line in PAGE.partition(encoders.MARK)[2].splitlines()
    if line.startswith("| `")
}


def test_the_page_counts_what_its_table_has():
    ways = [
        fine_tuned for kind, (fine_tuned, _) in LINES.items() if kind not in encoders.WITHOUT_HEAD
    ]
    counts = {way: ways.count(way) for way in ("packed", "padded", "one length")}
    refused = len(ways) - sum(counts.values())
    told = re.search(
        r"(\d+) of the (\d+) masked-LM kinds .*: (\d+) in packed batches, (\d+) in padded ones, "
        r"(\d+) with texts of one length",
        PAGE,
    )
    assert [int(n) for n in told.groups()] == [len(ways) - refused, len(ways), *counts.values()]
    assert f"{refused} are refused" in PAGE


@pytest.mark.parametrize("kind", ["bert", "mpnet", "bart", "xlnet"])
def test_a_line_of_the_page_is_what_the_check_gives(kind):
    assert encoders.row(kind)[1:] == LINES[kind]


@pytest.mark.slow
def test_the_page_is_what_the_check_gives():
    if f"transformers {transformers.__version__}." not in PAGE:
        pytest.skip("the page is of another version of transformers")
    assert set(LINES) == {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *encoders.WITHOUT_HEAD}
    assert encoders.table() in PAGE
