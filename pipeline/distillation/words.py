"""What distillation says about its losses while it trains."""

from collections.abc import Mapping

from pipeline.training.log import Words

DROWNED = 10.0
"""Ratio of gradient norms beyond which one of the two losses drowns the other."""
COLLAPSED = 1e-3
"""Spread of the student's directions over clips, as a share of the teacher's, below which it can
hardly tell one clip from another."""

LESS_MEMORY = (
    "Lower --batch-size first; then --crd-negatives, --max-tokens, or take a smaller --student."
)


def note(values: Mapping[str, float], decimals: int) -> str:
    """The masked-LM loss, and the objectives' loss if there is one."""
    named = [("mlm", "loss/mlm"), ("kd", "loss/kd")]
    return ", ".join(
        f"{word} {values[name]:.{decimals}f}" for word, name in named if name in values
    )


def warnings(values: Mapping[str, float]) -> dict[str, str]:
    """Losses that drown each other, and a student that may have collapsed."""
    warned = {}
    ratio = values.get("gradient/kd_over_mlm")
    if ratio is not None and ratio > DROWNED:
        warned["drowned"] = (
            f"the objective's gradient is {ratio:.0f} times that of the masked-LM loss and drowns "
            "it; lower --gamma"
        )
    if ratio is not None and ratio < 1 / DROWNED:
        warned["faint"] = (
            f"the objective's gradient is {ratio:.2g} of that of the masked-LM loss, which drowns "
            "it; raise --gamma"
        )
    for name, value in values.items():
        if name.startswith("spread/") and value < COLLAPSED:
            warned[name] = (
                f"the student gives all clips nearly the same vector ({name} is {value:.1e}): it "
                "may have collapsed"
            )
    return warned


WORDS = Words(note, warnings)
