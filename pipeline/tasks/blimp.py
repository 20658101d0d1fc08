"""BLiMP as papers report it: 12 fields, the five sets of BabyLM's supplement, published figures.

Warstadt et al. 2020 give each pair a `linguistics_term`; BabyLM (Warstadt et al. 2023) reports 12
fields of these, and five more sets of its own, which are no part of BLiMP.
"""

from collections.abc import Mapping

FIELDS: dict[str, tuple[str, ...]] = {
    "anaphor_agreement": ("anaphor_agreement",),
    "argument_structure": ("argument_structure", "s-selection"),
    "binding": ("binding",),
    "control_raising": ("control_raising",),
    "determiner_noun_agreement": ("determiner_noun_agreement",),
    "ellipsis": ("ellipsis",),
    "filler_gap": ("filler_gap_dependency",),
    "irregular_forms": ("irregular_forms",),
    "island_effects": ("island_effects",),
    "npi_licensing": ("npi_licensing",),
    "quantifiers": ("quantifiers",),
    "subject_verb_agreement": ("subject_verb_agreement",),
}
"""The fields of BabyLM, and the values of `linguistics_term` that each holds."""

SUPPLEMENT = (
    "hypernym",
    "qa_congruence_easy",
    "qa_congruence_tricky",
    "subject_aux_inversion",
    "turn_taking",
)
"""The sets of the supplement, which are the names of its files."""

_FIELD_OF = {term: field for field, terms in FIELDS.items() for term in terms}


def field_of(term: str) -> str:
    """The field of a `linguistics_term`; what is no term of BLiMP is a field of its own."""
    return _FIELD_OF.get(term, term)


_SIZES = """
anaphor_agreement          2000  1956  1902
argument_structure         9000  8248  7890
binding                    7000  6738  6510
control_raising            5000  4526  4363
determiner_noun_agreement  8000  7542  6793
ellipsis                   2000  1732  1630
filler_gap                 7000  6426  6179
irregular_forms            2000  1965  1903
island_effects             8000  2676  7448
npi_licensing              7000  6586  6261
quantifiers                4000  3882  3806
subject_verb_agreement     6000  5535  5190
hypernym                      0   860   842
qa_congruence_easy            0    64    64
qa_congruence_tricky          0   165   165
subject_aux_inversion         0  4099  3867
turn_taking                   0   280   280
"""
EDITIONS = ("BLiMP, whole", "BabyLM's files of 2023", "BabyLM's files of 2025")
SIZES: dict[str, dict[str, int]] = {edition: {} for edition in EDITIONS}
"""Pairs of each field or set in each edition. BabyLM left out pairs with words that are rare in its
10 M words. The sizes of 2023 follow from the percentages of Table 1 of the WhisBERT paper, those of
2025 were counted."""
for _line in _SIZES.strip().split("\n"):
    _name, *_counts = _line.split()
    for _edition, _count in zip(EDITIONS, _counts, strict=True):
        SIZES[_edition][_name] = int(_count)


def edition_of(pairs: Mapping[str, int]) -> str:
    """Which edition some files are, by how many pairs each field or set has; empty if none.

    Args:
        pairs: by the name of the field or set; those that are not there are not asked for.
    """
    named = [
        edition
        for edition, sizes in SIZES.items()
        if pairs and all(sizes.get(name) == count for name, count in pairs.items())
    ]
    return named[0] if len(named) == 1 else ""


PAPERS_EDITION = EDITIONS[1]
PAPER = "Wolf et al. 2023, Table 1"
COLUMNS = ("MLM", "MM", "OPT 10M", "RoBERTa 10M", "T5 10M", "OPT 100M", "RoBERTa 100M", "T5 100M")
CORRECTION = (
    "The caption of Table 1 says that its baselines were trained on 100 M words. All their figures "
    "are those of BabyLM's track of 10 M words (10M here); those of its track of 100 M words stand "
    "beside them (100M). On equal data OPT has the best mean."
)
_TABLE1 = """
anaphor_agreement          83.74 81.29  63.8 81.5 68.9  94.9 89.5 66.7
argument_structure         68.60 64.88  70.6 67.1 63.8  73.8 71.3 61.2
binding                    66.95 65.38  67.1 67.3 60.4  73.8 71.0 59.4
control_raising            65.25 64.76  66.5 67.9 60.9  72.2 67.1 59.8
determiner_noun_agreement  92.24 87.93  78.5 90.8 72.2  93.1 93.1 53.8
ellipsis                   83.14 88.68  62.0 76.4 34.4  80.5 83.8 49.1
filler_gap                 73.12 72.02  63.8 63.5 48.2  73.6 68.0 70.0
irregular_forms            89.62 85.90  67.5 87.4 77.6  80.8 89.6 75.5
island_effects             53.51 55.87  48.6 39.9 45.6  57.8 54.5 43.6
npi_licensing              64.77 55.12  46.7 55.9 47.8  51.6 66.3 45.6
quantifiers                69.58 71.69  59.6 70.5 61.2  74.5 70.3 34.2
subject_verb_agreement     75.05 70.73  56.9 65.4 65.0  77.3 76.2 53.2
hypernym                   50.12 51.98  50.0 49.4 48.0  46.3 50.8 51.1
qa_congruence_easy         71.88 67.19  54.7 31.3 40.6  76.5 34.4 45.3
qa_congruence_tricky       52.12 53.94  31.5 32.1 21.2  47.9 34.5 25.5
subject_aux_inversion      77.90 74.85  80.3 71.7 64.9  85.3 45.6 69.2
turn_taking                61.79 58.21  57.1 53.2 45.0  82.9 46.8 48.9
"""
PUBLISHED: dict[str, dict[str, str]] = {
    line.split()[0]: dict(zip(COLUMNS, line.split()[1:], strict=True))
    for line in _TABLE1.strip().split("\n")
}
"""Field or set → column → accuracy in % as printed. MLM (text alone) and MM (all five losses) are
WhisBERT's, one run each; the last three columns are from the README of BabyLM's baselines."""
