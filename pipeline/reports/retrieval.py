"""Retrieval of held-out clips, as the runs of encoders that heard audio recorded it.

It is no result of fine-tuning, so it is read from each encoder's own run, where that lies still.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.finetuning.cells import Pretrained
from pipeline.foundation.errors import Damaged
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.reports.page import Section

NUMBERS = (
    *("queries", "candidates", "r1", "r10", "median_rank"),
    *("chance_r1", "chance_r10", "chance_median_rank"),
)
HEADER = (
    *("encoder", "looked for", "found first", "among ten", "median rank", "of"),
    *("by lengths alone: first", "among ten"),
)


def retrieval(encoders: Iterable[Pretrained]) -> list[Section]:
    """A table of how well audio and text of held-out clips find each other; none if none did.

    Raises:
        Damaged: a run's record of it is not of its form.
    """
    rows: list[tuple[str, ...]] = []
    for encoder in encoders:
        record = record_of(encoder.source)
        alone = (record.get("length_only") or {}).get("mmc") or {}
        for way, figures in (record.get("retrieval") or {}).items():
            if figures is not None:
                by_length = (alone.get("retrieval") or {}).get(way)
                rows.append((encoder.label, str(way), *_cells(figures, by_length, encoder.source)))
    if not rows:
        return []
    text = (
        "Of clips that were held out of pre-training, as each run recorded it: how often the "
        "audio of a clip finds its own text first, and among the first ten, beside what chance "
        "gives. What lengths alone give is the duration's guess of the number of tokens: a model "
        "that does no better has heard nothing.",
    )
    return [Section("Audio and text of held-out clips", text, (HEADER, *rows))]


def record_of(source: str) -> dict[str, Any]:
    """The record of the run that an encoder is from; empty where there is none."""
    path = Path(source) / "run.json"
    try:
        if not path.is_file():
            return {}
        record = parse_json(read_text_file(path))
    except OSError:  # a name that no file system takes, such as a hub's
        return {}
    except ValueError as error:
        raise Damaged(f"{path} is not the record of a run ({error}).") from error
    return record if isinstance(record, dict) else {}


def _cells(figures: Any, by_length: Any, source: str) -> tuple[str, ...]:
    values, alone = _numbers(figures), _numbers(by_length)
    if values is None:
        raise Damaged(f"{source}/run.json: its retrieval is not of the form that a run writes.")
    return (
        f"{_percent(values['r1'])} (chance {_percent(values['chance_r1'])})",
        f"{_percent(values['r10'])} (chance {_percent(values['chance_r10'])})",
        f"{values['median_rank']:g} (chance {values['chance_median_rank']:g})",
        f"{values['candidates']:.0f}",
        "–" if alone is None else _percent(alone["r1"]),
        "–" if alone is None else _percent(alone["r10"]),
    )


def _numbers(figures: Any) -> dict[str, float] | None:
    if not isinstance(figures, Mapping):
        return None
    values = {name: figures.get(name) for name in NUMBERS}
    numbers = {n: float(v) for n, v in values.items() if isinstance(v, int | float)}
    return numbers if len(numbers) == len(NUMBERS) else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
