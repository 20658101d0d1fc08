"""What encoders began with, by its recipe: another encoder of the same results, or fresh weights.

A record names what a run began with by its place and its digest, and both differ from seed to seed
of one recipe. Here it is named by that recipe instead. So runs that began with runs of several
seeds are one group if they differ in those seeds alone, and each group has the one that it began
with, and the same with fresh weights.
"""

import functools
import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.finetuning.cells import Pretrained

FRESH = ("fresh:", "scratch:")
"""What stands before a run to name its encoder with fresh weights."""
PARTS = ("speech",)
"""Folders of a run that may be named in its place."""
BEGINNING, PLACE = "init_sha256", "init"
"""Where a record has the digest and the place of what a run began with."""
OF_FRESH = "fresh weights of "
LONGEST = 8
"""Runs that began with each other, one after the other."""


def alike(label: str, encoder: Pretrained) -> str:
    """What is equal for encoders that differ in their pre-training seed alone.

    Args:
        label: of the encoder.
        encoder: as `by_recipe` gives it.
    """
    if encoder.objective is None and not (is_fresh(encoder) and encoder.setup):
        return label
    parts: list[Any] = [encoder.objective, encoder.control, encoder.parameters]
    return json.dumps([*parts, encoder.setup, encoder.teaching], sort_keys=True)


def recipe(label: str, encoder: Pretrained) -> str:
    """A digest of `alike`."""
    return hashlib.sha256(alike(label, encoder).encode()).hexdigest()


def by_recipe(encoders: Mapping[str, Pretrained]) -> dict[str, Pretrained]:
    """The same encoders, each with what it began with named by its recipe, if that is here.

    Fresh weights of a run that is here get that run's seed.

    Args:
        encoders: by label.
    """
    by_source: dict[str, str] = {}
    by_weights: dict[str, str] = {}
    for label, encoder in encoders.items():
        if not is_fresh(encoder):
            by_source.setdefault(_run(encoder.source), label)
            by_weights.setdefault(encoder.weights_sha256, label)

    @functools.cache
    def of(label: str, left: int) -> Pretrained:
        encoder = encoders[label]
        if is_fresh(encoder):
            run = by_source.get(_run(_named(encoder.source)))
            if run is None or not left:
                return encoder
            whose = of(run, left - 1)
            setup = {BEGINNING: OF_FRESH + recipe(run, whose)}
            return replace(encoder, pretraining_seed=whose.pretraining_seed, setup=setup)
        if encoder.setup is None or encoder.objective is None:
            return encoder
        teaching = dict(encoder.teaching or {})
        place = str(teaching.pop(PLACE, "")) if BEGINNING in encoder.setup else ""
        mark = OF_FRESH if place.startswith(FRESH) else ""
        setup = {}
        for name, value in encoder.setup.items():
            other = by_weights.get(value) if isinstance(value, str) else None
            known = (
                recipe(other, of(other, left - 1)) if other not in (None, label) and left else value
            )
            setup[name] = f"{mark}{known}" if name == BEGINNING else known
        return replace(
            encoder, setup=setup, teaching=None if encoder.teaching is None else teaching
        )

    return {label: of(label, LONGEST) for label in encoders}


def is_fresh(encoder: Pretrained) -> bool:
    """Whether it is a run's encoder with fresh weights."""
    return encoder.objective is None and encoder.source.startswith(FRESH)


def _named(source: str) -> str:
    return source.partition(":")[2]


def _run(source: str) -> str:
    """The folder of a run, however it is written."""
    folder = posixpath.normpath(source)
    for part in PARTS:
        folder = folder.removesuffix(f"/{part}")
    return folder
