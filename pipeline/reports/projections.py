"""Where vectors of the test examples lie on a plane, read from a results folder and drawn."""

import csv
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import Damaged
from pipeline.reports.figures import planes


def read_projection(path: Path) -> tuple[Array, list[str], float]:
    """Where an encoder's vectors of the test examples lie on a plane, from a results folder.

    Returns:
        The coordinates `[n, 2]`, the label of each, and the share of the variance.

    Raises:
        SpeechkdError: the file is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        points_n2 = np.array([[float(row["x"]), float(row["y"])] for row in rows])
        return points_n2, [row["raw"] for row in rows], float(rows[0]["variance_share"])
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged(f"{path} is not a projection ({error!r}); remove it.") from None


def projections(paths: Mapping[str, Path], classes: Collection[str] | None) -> bytes | None:
    """The planes of several encoders side by side, coloured by label; None without labels.

    Args:
        paths: encoder → its projection.
        classes: the labels that are names, even if they are written in digits; none for all; None
            if labels that are numbers are quantities.

    Raises:
        SpeechkdError: a file is damaged.
    """
    planes_by_name = {name: read_projection(path) for name, path in paths.items()}
    labelled = {name: plane for name, plane in planes_by_name.items() if any(plane[1])}
    if not labelled:
        return None
    labels = [label for _, raw, _ in labelled.values() for label in raw]
    kinds = sorted(set(labels))
    number = {kind: float(place) for place, kind in enumerate(kinds)}
    if classes is None or not {*kinds} <= {*(classes or kinds)}:
        with suppress(ValueError):  # some are names
            number, kinds = {kind: float(kind) for kind in kinds}, []
    points = {
        name: (points_n2, [number[label] for label in raw], share)
        for name, (points_n2, raw, share) in labelled.items()
    }
    return planes(points, kinds)
