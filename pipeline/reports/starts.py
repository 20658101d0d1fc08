"""What encoders began with, by its recipe: another encoder of the same results, or fresh weights.

A record names what a run began with by its place and its digest, and both differ from seed to seed
of one recipe. Here it is named by that recipe instead. So runs that began with runs of several
seeds are one group if they differ in those seeds alone, and each group has the one that it began
with, and the same with fresh weights.

A run that holds out whole speakers or recordings holds out more or fewer clips with each seed, so
its steps differ, too. There the epochs that were asked for stand in place of steps.
"""

import functools
import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.finetuning.cells import Pretrained
from pipeline.reports.retrieval import record_of

FRESH = ("fresh:", "scratch:")
"""What stands before a run to name its encoder with fresh weights."""
PARTS = ("speech",)
"""Folders of a run that may be named in its place."""
BEGINNING, PLACE = "init_sha256", "init"
"""Where a record has the digest and the place of what a run began with."""
STEPS, ALL_STEPS, WARMUP = "steps", "total steps", "warm-up steps"
EPOCHS, WARMUP_FRACTION, MOST_STEPS = "epochs", "warmup_fraction", "max_steps"
"""Settings that decide steps."""
HELD_OUT, HELD_OUT_BY = "held_out", "hold_out_by"
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

    Raises:
        Damaged: the record of a run is none.
    """
    encoders = _by_epochs(encoders)
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


def _by_epochs(encoders: Mapping[str, Pretrained]) -> Mapping[str, Pretrained]:
    """The same with epochs in place of steps, if the records of all such runs lie where they were.

    Of some alone it would set runs apart that are equal. Who was stopped early keeps its steps.
    """
    changed = dict(encoders)
    for label, encoder in encoders.items():
        setup = encoder.setup or {}
        distilled = encoder.method is None
        by_seed = setup.get(HELD_OUT) if distilled else HELD_OUT_BY in setup
        whole = STEPS in setup and setup[STEPS] == setup.get(ALL_STEPS)
        if not (by_seed and whole):
            continue
        settings = record_of(_run(encoder.source)).get("settings")
        # warm-up is a number of steps for `distill`, and a share of them for `pretrain`
        replaced = (
            {ALL_STEPS: EPOCHS} if distilled else {ALL_STEPS: EPOCHS, WARMUP: WARMUP_FRACTION}
        )
        if not isinstance(settings, dict) or not {*replaced.values()} <= {*settings}:
            return encoders
        if settings.get(MOST_STEPS) == setup[STEPS]:
            continue
        rest = {name: v for name, v in setup.items() if name not in (STEPS, *replaced)}
        changed[label] = replace(
            encoder, setup={**rest, **{name: settings[name] for name in replaced.values()}}
        )
    return changed


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
