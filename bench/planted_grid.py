"""The planted-signal experiment: its corpora, its settings, and every student in order."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.foundation.hashing import json_sha256
from pipeline.tasks.planted.corpus import CARRIERS
from pipeline.tasks.planted.speech import VOICES

WORDS = 40
SEEDS = (7816, 9573, 7788, 6782, 8588)
"""Seeds of students, drawn before everything else: default_rng(231107014).integers(1, 10000, 5)."""


@dataclass(frozen=True)
class PlantedCorpus:
    """What one corpus is made from: forty words in each of the carriers."""

    seed: int
    carriers: tuple[str, ...]
    voices: tuple[str, ...]
    strength: float = 1.0


# fmt: off
VOICES_B = (
    "en-us+Annie", "en-us+edward", "en-us+Alicia", "en-us+antonio", "en-gb-x-rp+belinda",
    "en-gb-x-gbclan+Michael", "en-gb-x-gbcwmd+benjamin", "en-us-nyc+Mike", "en-gb-scotland+f3",
    "en-029+m3",
)
VOICES_C = (
    "en-us+f2", "en-us+m7", "en-us+Andrea", "en-gb-x-rp+steph3", "en-gb-x-rp+david",
    "en-gb-scotland+aunty", "en-gb-x-gbclan+grandpa", "en-gb-x-gbcwmd+paul", "en-us-nyc+max",
    "en-029+f4",
)
# fmt: on
CORPORA = {
    "A": PlantedCorpus(0, CARRIERS[:10], VOICES),
    "B": PlantedCorpus(1301, CARRIERS[10:20], VOICES_B),
    "C": PlantedCorpus(2602, CARRIERS[20:], VOICES_C),
    "weak": PlantedCorpus(3903, CARRIERS[5:15], VOICES_B[:5] + VOICES_C[:5], strength=0.5),
    "A1": PlantedCorpus(0, CARRIERS[:1], VOICES),
    "A2": PlantedCorpus(0, CARRIERS[:2], VOICES),
    "A4": PlantedCorpus(0, CARRIERS[:4], VOICES),
}
"""A is the demo's; the settings below were chosen on it. A1, A2 and A4 have its words and affects
in fewer sentences; their students are tested on the sentences of A."""

CONFIG = {
    "model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 256, "max_position_embeddings": 128,
}  # fmt: skip
"""Half as wide as bert-tiny, and twice as fast to train on a CPU."""
STUDENT: dict[str, Any] = {
    "student": "64 wide", "epochs": 60.0, "batch": 64, "learning_rate": 3e-3, "held_out": 0.0,
    "device": "cpu", "log_every": 100, "measure_every": 100, "checkpoint_minutes": 0.0,
}  # fmt: skip
FINE_TUNING: dict[str, Any] = {"epochs": 10, "learning_rate": 5e-4, "device": "cpu"}

NONE: dict[str, Any] = {"kd": ["none"]}
CRD: dict[str, Any] = {
    "kd": ["crd"],
    "gamma": [1.0],
    "temperature": 0.1,
    "teacher_side": "standardize",
}
INFONCE = {**CRD, "kd": ["infonce"]}
NST: dict[str, Any] = {"kd": ["nst"], "gamma": [10.0], "teacher_side": "none"}
VECTOR = {**NST, "nst_pattern": "vector", "gamma": [100.0]}
BATCH = {**NST, "nst_pattern": "batch", "teacher_side": "standardize"}
CARRYING = {"crd": CRD, "infonce": INFONCE, "nst batch": BATCH, "nst vector": VECTOR}
SHUFFLED = {f"{name}, shuffled": {**CARRYING[name], "control": "shuffled"} for name in CARRYING}
RANDOM = {f"{name}, random": {**CARRYING[name], "control": "random"} for name in CARRYING}
MAIN = {
    "none": NONE,
    **CARRYING,
    "nst token": {**NST, "nst_pattern": "token"},
    "nst sequence": {**NST, "nst_pattern": "sequence"},
    "crd, Eq. 5's bias": {**CRD, "crd_bias": "paper"},
    "nst vector, γ = 1": {**VECTOR, "gamma": [1.0]},
    "nst vector, standardised": {**VECTOR, "teacher_side": "standardize"},
    **SHUFFLED,
    "nst batch, γ = 1": {**BATCH, "gamma": [1.0]},
    "crd, τ = 0.01": {**CRD, "temperature": 0.01},
    "nst token, γ = 100": {**NST, "nst_pattern": "token", "gamma": [100.0]},
    **RANDOM,
}
FIRST = dict(itertools.islice(MAIN.items(), 10 + len(SHUFFLED)))
DEFAULT_CRD = {"crd, τ = 0.01": MAIN["crd, τ = 0.01"]}
WEAK = {name: MAIN[name] for name in ("none", *CARRYING)}
CURVES = {
    "γ": {
        f"{name}, γ = {gamma:g}": {**settings, "gamma": [gamma]}
        for name, settings in (("nst vector", VECTOR), ("nst batch", BATCH), ("crd", CRD))
        for gamma in (1.0, 10.0, 100.0, 1000.0)
    },
    "teacher side": {
        f"{name}, {side}": {**settings, "teacher_side": side}
        for side in ("none", "center", "standardize")
        for name, settings in CARRYING.items()
    },
    "τ": {
        f"{name}, τ = {tau:g}": {**settings, "temperature": tau}
        for tau in (0.01, 0.03, 0.1, 1.0)
        for name, settings in (("crd", CRD), ("infonce", INFONCE))
    },
    "NST's patterns": {
        **{
            f"nst {pattern}, not normalised": {
                **NST, "nst_pattern": pattern, "nst_normalize": False,
            }
            for pattern in ("batch", "vector", "sequence")
        },
        "nst sequence, not normalised, shuffled": {
            **NST, "nst_pattern": "sequence", "nst_normalize": False, "control": "shuffled",
        },
        **{
            f"nst token, γ = {gamma:g}": {**NST, "nst_pattern": "token", "gamma": [gamma]}
            for gamma in (1.0, 100.0, 1000.0)
        },
        "nst token, γ = 1000, shuffled": {
            **NST, "nst_pattern": "token", "gamma": [1000.0], "control": "shuffled",
        },
    },
    "negatives": {
        f"crd, {k} more negatives": {**CRD, "crd_negatives": k} for k in (64, 256)
    },
    "student and rate": {
        f"{name}, {student}, {rate:g}": {**settings, "student": student, "learning_rate": rate}
        for student, rate in (("64 wide", 1e-3), ("bert-tiny", 1e-3))
        for name, settings in {"none": NONE, **CARRYING}.items()
    },
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One student: its corpus, its settings and its seed."""

    group: str
    name: str
    corpus: str
    seed: int
    settings: dict[str, Any]

    @property
    def digest(self) -> str:
        """The student's identity, whatever its name in tables."""
        return settings_digest(self.corpus, self.seed, self.settings)


def settings_digest(corpus: str, seed: int, settings: Mapping[str, Any]) -> str:
    """A short digest of everything that a student depends on."""
    return json_sha256([corpus, seed, {**STUDENT, **settings}, FINE_TUNING])[:12]


def jobs() -> list[Job]:
    """Every student of the experiment, the most important first; equal ones are trained once."""
    first, second, third = SEEDS[:3]
    return [
        *main("AB", first, FIRST),
        *main("C", first, WEAK),
        *main(["weak"], first, WEAK),
        *main("C", first, FIRST),
        *main("A", first),
        *curves(first),
        *amounts(first),
        *main(["B", "C", "weak"], first, DEFAULT_CRD),
        *main(["weak"], second, WEAK),
        *main(["weak"], third, WEAK),
        *main("BC", first, {name: MAIN[name] for name in ("nst token, γ = 100",)}),
        *main("ABC", second, WEAK),
        *main("BC", first),
        *main("ABC", second),
        *main("ABC", third),
        *curves(second),
        *amounts(second),
    ]


def main(
    corpora: Iterable[str], seed: int, forms: Mapping[str, dict[str, Any]] = MAIN
) -> list[Job]:
    return [
        Job("main", name, corpus, seed, settings)
        for corpus, (name, settings) in itertools.product(corpora, forms.items())
    ]


def curves(seed: int) -> list[Job]:
    return [
        Job(group, name, "A", seed, settings)
        for group, forms in CURVES.items()
        for name, settings in forms.items()
    ]


def amounts(seed: int) -> list[Job]:
    return [
        Job("clips per word", name, corpus, seed, settings)
        for corpus, (name, settings) in itertools.product(("A1", "A2", "A4"), WEAK.items())
    ]
