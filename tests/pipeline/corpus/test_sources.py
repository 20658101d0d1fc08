"""Tables of texts are read alike in every form, and bad ones are told with a cure."""

import csv
import gzip
import json

import pytest

from pipeline.corpus.sources import Both, CacheTexts, TextTables, source_of
from pipeline.foundation.errors import NotThere, SpeechkdError
from tests.helpers.caches import make_cache, samples_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [("well, yeah", "c1"), ("so I, uh, went", "c1"), ("", "c2"), ("no. NA. null", "c3")]


def flat(source):
    return [sample for samples in source.pieces() for sample in samples]


def texts_of(source):
    return [(sample["text"], sample["recording"]) for sample in flat(source)]


@pytest.fixture
def tables(tmp_path):
    """The same rows in every form, with a column that nobody asked for."""
    rows = [{"Sentence": text, "recording": name, "other": "1"} for text, name in ROWS]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    (tmp_path / "a.tsv").write_text("\n".join(lines))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress((tmp_path / "a.tsv").read_bytes()))
    return tmp_path


def test_every_form_gives_the_same_texts_and_digest(tables):
    names = ["a.csv", "a.tsv", "a.parquet", "a.json", "a.jsonl", "a.tsv.gz"]
    sources = [TextTables((tables / name,)) for name in names]
    for source in sources:
        assert texts_of(source) == ROWS
        assert source.written == 4
    assert len({source.digest() for source in sources}) == 1
    assert [sample["row"] for sample in flat(sources[0])] == [0, 1, 2, 3]
    assert flat(sources[0])[1]["key"] == f"{tables / 'a.csv'}, line 3"
    plain = tables / "a.txt"
    plain.write_text("well, yeah\n\n  so I, uh, went \n")
    assert texts_of(TextTables((plain,))) == [("well, yeah", None), ("so I, uh, went", None)]


def test_several_tables_follow_each_other_and_columns_can_be_named(tables):
    both = TextTables((tables / "a.csv", tables / "a.tsv"))
    assert texts_of(both) == ROWS + ROWS
    assert [sample["row"] for sample in flat(both)] == list(range(8))
    named = TextTables((tables / "a.csv",), "recording", "other")
    assert texts_of(named) == [(name, "1") for _, name in ROWS]
    assert named.digest() != TextTables((tables / "a.csv",)).digest()


def test_a_column_without_a_name_is_no_recording(tmp_path):
    (tmp_path / "a.csv").write_text(",text\n0,well\n1,yeah\n")
    assert texts_of(TextTables((tmp_path / "a.csv",))) == [("well", None), ("yeah", None)]


def test_texts_stand_behind_those_of_a_cache_at_rows_of_their_own(tables, tmp_path):
    cache = make_cache(tmp_path / "cache", [5, 4])
    texts = TextTables((tables / "a.csv",))
    both = source_of(cache, texts)
    assert isinstance(both, Both)
    samples = samples_of(cache)
    assert [sample["text"] for sample in flat(both)] == [*samples.texts, *(t for t, _ in ROWS)]
    rows = [sample["row"] for sample in flat(both)]
    assert rows[:9] == samples.rows.tolist()
    assert min(rows[9:]) > max(samples.rows)
    assert both.written == 13
    assert len({both.digest(), texts.digest(), cache.digest()}) == 3
    assert isinstance(source_of(cache, None), CacheTexts)
    assert source_of(None, texts) is texts


@pytest.mark.parametrize(
    ("name", "content", "columns", "told"),
    [
        ("a.csv", "words,act\nyeah,b\n", {}, "no column for the texts .*--text-column"),
        ("a.csv", "text\nyeah\n", {"text_column": "line"}, "no column 'line' .--text-column"),
        ("a.csv", "text\nyeah\n", {"recording_column": "d"}, "no column 'd' .--recording-column"),
        ("a.tsv", "text\tact\nyeah\n", {}, "line 2: 1 cell where the header has 2"),
        ("a.csv", 'text\n"yeah\n', {}, "line 2 cannot be read"),
        ("a.jsonl", json.dumps({"text": "yeah"}) + "\n[1]\n", {}, "line 2: not a JSON object"),
        ("a.csv", "", {}, "is empty"),
        ("a.jsonl", json.dumps({"text": "ye\ud800ah"}), {}, "line 1: half a character"),
        ("a.json", json.dumps([{"text": "a", "recording": "\udfff"}]), {}, "row 1: half a char"),
    ],
)
def test_bad_tables_are_told_with_their_place(tmp_path, name, content, columns, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(SpeechkdError, match=told):
        TextTables((tmp_path / name,), **columns).digest()


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(NotThere, match="no such file"):
        TextTables((tmp_path / "none.csv",)).digest()
