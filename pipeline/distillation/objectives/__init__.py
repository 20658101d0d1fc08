"""Distillation objectives: one file per objective, one contract, one registry.

To add one: subclass `Objective` in a file of its own, define `title` and `loss`, and
add it to `OBJECTIVES`.
"""

from pipeline.distillation.objectives.contract import Context, KDBatch, Objective, Options
from pipeline.distillation.objectives.cosine import Cosine
from pipeline.distillation.objectives.crd import CRD
from pipeline.distillation.objectives.infonce import InfoNCE
from pipeline.distillation.objectives.l1 import L1
from pipeline.distillation.objectives.nst import NST

OBJECTIVES: dict[str, type[Objective]] = {
    "nst": NST,
    "crd": CRD,
    "infonce": InfoNCE,
    "l1": L1,
    "cosine": Cosine,
}

__all__ = ["OBJECTIVES", "Context", "KDBatch", "Objective", "Options"]
