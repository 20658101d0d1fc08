"""Reports, model cards and results folders whose every text is meant to do harm."""

import html.parser
import json
import re

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_sets
from pipeline.reports.formats import escaped
from pipeline.training.card import code
from stages.finetune_table import TableSettings
from stages.finetune_table import run as finetune
from stages.report import ReportSettings
from stages.report import run as report
from tests.helpers.encoders import save_encoder

SCRIPT = "<script>alert(1)</script>"
HARMS = {
    "label": f'{SCRIPT}"><img src=x onerror=alert(1)>',
    "class": f"{SCRIPT}&amp;![x](http://evil/x.png)",
    "column": "../../<b>label</b> $\\alpha$ `code` |",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harm")
    save_encoder(folder / "e", [f"text {i}" for i in range(6)])
    column = HARMS["column"]
    rows = [
        {"text": f"text {i % 6} {SCRIPT}", column: f"{HARMS['class']} {i % 2}", "split": split}
        for split, count in (("train", 12), ("valid", 6), ("test", 6))
        for i in range(count)
    ]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    finetune(
        TableSettings(
            data=[str(folder / "a.jsonl")],
            text_column="text", label_column=column, split_column="split",
            checkpoint=[f"{HARMS['label']}={folder / 'e'}"], seeds="0", epochs=1, device="cpu",
            out=folder / "r",
        )
    )  # fmt: skip
    return folder


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_harmful_texts_stay_texts(results, tmp_path, capsys):
    report(ReportSettings(results=[results / "r"], out=tmp_path / "deep" / "report"))
    capsys.readouterr()
    page = (tmp_path / "deep" / "report" / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.found & {"script", "iframe", "a", "object", "form", "link", "b"}
    assert not {name for name in tags.attributes if name.startswith("on")}
    assert "default-src 'none'" in page
    assert SCRIPT not in page
    markdown = (tmp_path / "deep" / "report" / "report.md").read_text()
    assert "<script" not in markdown
    pictures = re.findall(r"(?<!\\)!\[[^\n]*?(?<!\\)\]\(([^)]*)\)", markdown)
    assert pictures
    assert all(re.fullmatch(r"figures/[\w.-]+\.png", name) for name in pictures)


def test_nothing_is_written_outside_the_report(results, tmp_path, capsys):
    report(ReportSettings(results=[results / "r"], out=tmp_path / "deep" / "report"))
    capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report"]
    assert {p.suffix for p in (tmp_path / "deep" / "report" / "figures").iterdir()} == {".png"}


@pytest.mark.parametrize(
    "changes",
    [
        {"predictions": "/etc/passwd"},
        {"predictions": "predictions/../../../etc/passwd"},
        {"predictions": "../x.csv"},
        {"predictions": 1},
        {"checkpoint": {}},
        {"checkpoint": {"label": 1, "weights_sha256": "0"}},
        {"seed": "0"},
        {"outputs": "x"},
        {"metrics": None},
    ],
    ids=str,
)
def test_a_record_of_another_kind_is_told(results, tmp_path, changes):
    made = tmp_path / "r"
    made.mkdir()
    record = json.loads((results / "r" / "results.jsonl").read_text())
    (made / "results.jsonl").write_text(json.dumps({**record, **changes}))
    (made / "results.json").write_text((results / "r" / "results.json").read_text())
    with pytest.raises(SpeechkdError, match="no record of a cell"):
        read_sets([made])


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 5000, "{", "\xff"])
def test_broken_results_are_told(tmp_path, content):
    (tmp_path / "results.jsonl").write_text(content, encoding="latin1")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(SpeechkdError, match=r"results\.jsonl"):
        read_sets([tmp_path])


def test_markdown_makes_no_link_picture_code_or_tag_of_others_texts():
    assert escaped("![x](http://e) <b> `c` \\") == r"!\[x\](http://e) &lt;b> \`c\` " + "\\\\"
    assert code("a` ![x](y) `b") == "`a' ![x](y) 'b`"
