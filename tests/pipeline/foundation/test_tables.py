"""Tables of every kind give the same rows, and a broken one names its line."""

import csv
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import column_names, json_lines, read_rows, text_rows

cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip)


def rows_of(path):
    return [row.cells for row in text_rows(path)]


@given(rows=st.lists(st.tuples(cells, cells), min_size=1), delimiter=st.sampled_from(",;\t|"))
def test_csv_as_python_writes_it_comes_back(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("path", "text"), *rows])
    assert column_names(path) == ["path", "text"]
    assert [tuple(cell.values()) for cell in rows_of(path)] == rows


def test_line_break_in_a_quoted_cell_and_line_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('path,text\na.wav,"two\nlines"\n\nb.wav,one\n', encoding="utf-8")
    found = list(text_rows(path))
    assert [row.cells["text"] for row in found] == ["two\nlines", "one"]
    assert found[1].line == 5


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffpath,text\r\na.wav,hé\r\n".encode())
    assert rows_of(path) == [{"path": "a.wav", "text": "hé"}]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"Hello," he said', '"Hello," he said'),
        ('he said "no', 'he said "no'),
        ('"Hello."', '"Hello."'),  # Common Voice has whole sentences in quotes
        ('"He said ""yes""."', 'He said "yes".'),
        ('"', '"'),
        ('""', '""'),
    ],
)
def test_quotes_in_tsv(tmp_path, written, meant):
    path = tmp_path / "t.tsv"
    path.write_text(f"path\ttext\na.wav\t{written}\nb.wav\tnext\n", encoding="utf-8")
    assert rows_of(path) == [{"path": "a.wav", "text": meant}, {"path": "b.wav", "text": "next"}]


def test_tsv_keeps_rare_line_separators_in_the_cell(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("path\ttext\na.wav\tone\u2028two\x85three\n", encoding="utf-8")
    assert [row["text"] for row in rows_of(path)] == ["one\u2028two\x85three"]


def test_json_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = [json.dumps({"path": "a", "n": 1.5, "none": None}), "", "[1]", "{", '{"path": "b"}']
    path.write_text("\n".join(lines), encoding="utf-8")
    found = list(text_rows(path))
    assert found[0].cells == {"path": "a", "n": "1.5", "none": ""}
    assert [bool(row.fault) for row in found] == [False, True, True, False]
    assert [row.line for row in found] == [1, 3, 4, 5]
    assert column_names(path) == ["path", "n", "none"]


def test_row_of_the_wrong_width_is_a_fault(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,text\na.wav,one,two\nb.wav\nc.wav,three\n", encoding="utf-8")
    found = list(text_rows(path))
    assert [row.fault for row in found] == [
        "3 cells where the header has 2",
        "1 cell where the header has 2",
        "",
    ]


def test_other_encodings_are_named_with_the_remedy(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("path,text\na.wav,fine\nb.wav,café\n".encode("latin-1"))
    with pytest.raises(SpeechkdError, match=r"t\.csv, line 3: not UTF-8 text \(byte 0xe9\).*iconv"):
        list(text_rows(path))
    path.write_bytes("path,text\na.wav,x\n".encode("utf-16"))
    with pytest.raises(SpeechkdError, match="not UTF-8"):
        column_names(path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_empty_and_missing_files(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(SpeechkdError, match="no such file"):
        column_names(path)
    path.touch()
    with pytest.raises(SpeechkdError, match="is empty"):
        column_names(path)


def test_a_quote_that_is_never_closed_is_an_error_with_its_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('path,text\na.wav,"open\n' + "b.wav,x\n" * 200_000, encoding="utf-8")
    with pytest.raises(
        SpeechkdError, match=r"t\.csv: the row that begins on line 2 .*field larger"
    ):
        list(text_rows(path))


def test_utf_16_is_known_and_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\na,1\n", encoding="utf-16")
    with pytest.raises(SpeechkdError, match="iconv -f UTF-16 -t UTF-8"):
        list(text_rows(path))
    for name, mark in (("t.csv", ","), ("t.tsv", "\t")):
        path = tmp_path / name
        path.write_text(f"text{mark}label{mark} label\na{mark}1{mark}2\n")
        with pytest.raises(SpeechkdError, match="two columns called label"):
            list(text_rows(path))


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("t.csv", "id,text\na,one\nb,two\n", "line 3"),
        ("t.jsonl", '{"id": "a", "text": "one"}\n{"text": "two", "id": "b"}\n', "line 2"),
        ("t.json", '[{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]', "row 2"),
        ("t.json", '{"a": {"text": "one"}, "b": {"text": "two"}}', "row 2"),
    ],
)
def test_every_kind_of_table_gives_the_same_rows(tmp_path, name, text, place):
    (tmp_path / name).write_text(text)
    columns, rows = read_rows(tmp_path / name)
    assert columns == ["id", "text"]
    rows = list(rows)
    assert [dict(row) for _, row in rows] == [
        {"id": "a", "text": "one"},
        {"id": "b", "text": "two"},
    ]
    assert rows[1][0] == place


def test_a_broken_row_is_an_error_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("id,text\na,one,more\n")
    with pytest.raises(SpeechkdError, match=r"t\.csv, line 2: 3 cells where the header has 2"):
        read_rows(tmp_path / "t.csv")


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n"])
def test_a_spreadsheets_line_of_the_delimiter_is_no_header(tmp_path, first):
    path = tmp_path / "t.csv"
    path.write_text(f'{first}path;text;end\na.wav;"one, two; three";1,5\nb.wav;x\n')
    assert column_names(path) == ["path", "text", "end"]
    one, torn = text_rows(path)
    assert one.cells == {"path": "a.wav", "text": "one, two; three", "end": "1,5"}
    assert one.line == 3
    assert (torn.line, torn.fault) == (4, "2 cells where the header has 3")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json"])
def test_a_compressed_table_is_read_as_the_plain_one(tmp_path, name):
    texts = {
        "t.csv": "path,text\na.wav,é\n",
        "t.tsv": "path\ttext\na.wav\té\n",
        "t.jsonl": '{"path": "a.wav", "text": "é"}\n',
        "t.json": '[{"path": "a.wav", "text": "é"}]',
    }
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(texts[name].encode()))
    columns, rows = read_rows(path)
    assert columns == ["path", "text"]
    assert [row for _, row in rows] == [{"path": "a.wav", "text": "é"}]
    path.write_bytes(gzip.compress("path,text\na,caf\xe9\n".encode("latin-1")))
    with pytest.raises(SpeechkdError, match="not UTF-8"):
        read_rows(path)


def test_json_lines_tell_the_line_that_is_none(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('1\n\n{"a": 2}\n{\n')
    lines = json_lines(path)
    assert [next(lines), next(lines)] == [(f"{path}, line 1", 1), (f"{path}, line 3", {"a": 2})]
    with pytest.raises(SpeechkdError, match="line 4: not JSON"):
        next(lines)
