"""A report as Markdown and as one HTML file: sections of text, tables and pictures.

Labels, paths and names of classes were written by others, so every piece of text is escaped.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.reports.formats import escaped, is_figures, to_markdown


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: its heading.
        text: paragraphs.
        grid: a table of text, with a head.
        notes: a list of remarks under the table.
        picture: name and content of a PNG.
        chapter: the heading of the chapter that begins with this section; empty if none begins.
        part: the heading of the part of a chapter that begins with this section; empty as above.
        folded: whether the HTML page shows only the heading until a reader opens the section.
    """

    title: str
    text: tuple[str, ...] = ()
    grid: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    picture: tuple[str, bytes] | None = field(default=None, repr=False)
    chapter: str = ""
    part: str = ""
    folded: bool = False


def as_markdown(sections: Sequence[Section]) -> str:
    """The report as Markdown; the pictures are files in `figures/`."""
    parts = []
    level = _level(sections)
    for section in sections:
        if section.chapter:
            parts.append(f"# {_one_line(section.chapter)}")
        if section.part:
            parts.append(f"## {_one_line(section.part)}")
        parts.append(f"{'#' * level} {_one_line(section.title)}")
        parts += [_one_line(text) for text in section.text]
        if section.picture:
            parts.append(f"![{_one_line(section.title)}](figures/{section.picture[0]}.png)")
        if section.grid:
            parts.append(to_markdown(section.grid))
        if section.notes:
            parts.append("\n".join(f"- {_one_line(note)}" for note in section.notes))
    return "\n\n".join(parts) + "\n"


def _level(sections: Sequence[Section]) -> int:
    """The level of the sections' headings: under chapters, and under parts where there are any."""
    return 3 if any(section.part for section in sections) else 2


def _one_line(text: str) -> str:
    return escaped(" ".join(text.split()))


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 0 auto; padding: 1rem; }
h1 { margin-top: 3rem; } h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
h2, summary { font-size: 1.3rem; font-weight: 600; } h3 { margin-top: 1.8rem; font-size: 1.1rem; }
p, ul { max-width: 48rem; }
details { margin-top: 1rem; } summary { cursor: pointer; font-size: 1.05rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .3rem .4rem; border-bottom: 1px solid #8886; text-align: left; }
th { vertical-align: bottom; }
.figure { text-align: right; } td.figure { white-space: nowrap; }
.paper { color: GrayText; background: #8881; }
td small { display: block; color: GrayText; }
th:first-child, td:first-child { min-width: 9rem; position: sticky; left: 0; background: Canvas; }
img { max-width: 100%; height: auto; background: white; }
ul { padding-left: 1.2rem; } li { font-size: .9rem; }
@media (max-width: 40rem) {
  body { padding: .6rem; } th, td { padding: .25rem .35rem; }
  th:first-child, td:first-child { min-width: 6rem; max-width: 7.5rem; overflow-wrap: anywhere; }
}
"""


def as_html(sections: Sequence[Section]) -> str:
    """The report as one HTML file that needs nothing else: no script, no network."""
    level = _level(sections)
    body = _contents(sections) if level > 2 else []
    chapters = 0
    for section in sections:
        if section.chapter:
            chapters += 1
            body.append(f'<h1 id="chapter-{chapters}">{html.escape(section.chapter)}</h1>')
        if section.part:
            body.append(f"<h2>{html.escape(section.part)}</h2>")
        title = html.escape(section.title)
        body.append(
            f"<details><summary>{title}</summary>"
            if section.folded
            else f"<h{level}>{title}</h{level}>"
        )
        body += [f"<p>{html.escape(text)}</p>" for text in section.text]
        if section.picture:
            data = base64.b64encode(section.picture[1]).decode()
            body.append(f'<p><img alt="{title}" src="data:image/png;base64,{data}"></p>')
        if section.grid:
            body.append(_table(section.grid))
        if section.notes:
            items = "".join(f"<li>{html.escape(note)}</li>\n" for note in section.notes)
            body.append(f"<ul>{items}</ul>")
        if section.folded:
            body.append("</details>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>Results</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _contents(sections: Sequence[Section]) -> list[str]:
    """Links to the chapters."""
    chapters = [section.chapter for section in sections if section.chapter]
    links = (
        f'<li><a href="#chapter-{number}">{html.escape(chapter)}</a></li>'
        for number, chapter in enumerate(chapters, start=1)
    )
    return [f"<ul>{''.join(links)}</ul>"]


def _table(grid: Sequence[Sequence[str]]) -> str:
    head, *rows = grid
    kinds = [
        " ".join(
            ["figure"] * is_figures(row[i] for row in rows) + ["paper"] * name.endswith("(paper)")
        )
        for i, name in enumerate(head)
    ]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{kind}">{_cell(text)}</{tag}>'
            for text, kind in zip(cells, kinds, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{line(head, "th")}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """A cell; if a mean is over fewer seeds, their number stands under it in small print."""
    return re.sub(r" (\(\d+ of \d+\))$", r"<small>\1</small>", html.escape(text))
