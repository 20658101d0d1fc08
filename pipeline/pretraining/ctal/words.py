"""What CTAL says about its losses while it trains."""

from collections.abc import Mapping

from pipeline.training.log import Words

LESS_MEMORY = "Lower --batch-size first; then take --stack 4, or a smaller --width."


def note(values: Mapping[str, float], decimals: int) -> str:
    """Both losses, and beside the second what a line between visible frames gets."""
    named = [
        ("mlm", "loss/mlm"),
        ("mcam", "loss/mcam"),
        ("of it in the middle", "loss/mcam_middle"),
        ("zero", "line/zero"),
        ("interpolation", "line/interpolation"),
        ("held", "line/held"),
        ("with another text", "loss/mcam_other_text"),
    ]
    return ", ".join(
        f"{word} {values[name]:.{decimals}f}" for word, name in named if name in values
    )


def warnings(values: Mapping[str, float]) -> dict[str, str]:
    """Masked frames that are predicted no better than without a model."""
    names = ("line/zero", "line/interpolation", "line/held")
    if "loss/mcam" not in values or not all(name in values for name in names):
        return {}
    best = min(values[name] for name in names)
    if values["loss/mcam"] <= best:
        return {}
    return {
        "mcam": f"masked frames are predicted with an error of {values['loss/mcam']:.3f}, and "
        f"without any model with {best:.3f} (line/zero, line/interpolation, line/held): train "
        "longer"
    }


WORDS = Words(note, warnings, unit="frames")
