"""Where an encoder's vectors of the test texts lie on a plane, as a results folder keeps it."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline import figures
from pipeline.errors import SpeechkdError
from pipeline.metrics import Array


def read_projection(path: Path) -> tuple[Array, list[str], float]:
    """Read the coordinates `[n, 2]`, the label of each text, and the share of the variance.

    Raises:
        SpeechkdError: the file is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        points_n2 = np.array([[float(row["x"]), float(row["y"])] for row in rows])
        return points_n2, [row["raw"] for row in rows], float(rows[0]["variance_share"])
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise SpeechkdError(f"{path} is not a projection ({error!r}); remove it.") from None


def picture(paths: Mapping[str, Path]) -> bytes | None:
    """The planes of several encoders side by side, coloured by label; None without labels.

    Args:
        paths: encoder → its file.
    """
    points = {}
    for name, path in paths.items():
        points_n2, raw, share = read_projection(path)
        if not any(raw):
            continue
        values = _numbers(raw)
        points[name] = (points_n2, values, share)
    return figures.planes(points) if points else None


def _numbers(raw: list[str]) -> list[float]:
    try:
        return [float(value) for value in raw]
    except ValueError:
        kinds = sorted(set(raw))
        return [float(kinds.index(value)) for value in raw]
