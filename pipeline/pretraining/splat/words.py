"""What SPLAT says about its losses while it trains."""

from collections.abc import Mapping

from pipeline.training.log import Words

LESS_MEMORY = "Lower --batch-size first; a module with a larger --stack takes less, too."
NO_BETTER_THAN_CONSTANT = 1.0
SHORT = {
    "loss/hidden-time": "hidden",
    "loss/visible": "visible",
    "loss/align": "align",
    "align/over_constant": "of constant",
    "match/own": "own",
    "match/other": "other",
}


def note(values: Mapping[str, float], decimals: int) -> str:
    """The most telling of the losses."""
    return ", ".join(
        f"{word} {values[name]:.{decimals}f}" for name, word in SHORT.items() if name in values
    )


def warnings(values: Mapping[str, float]) -> dict[str, str]:
    """A module that interpolates, that knows no text, or that hedges."""
    warned = {}
    line, own = values.get("line/hidden-time"), values.get("loss/hidden-time")
    if line is not None and own is not None and own > line:
        warned["line"] = (
            f"hidden frames are filled in worse ({own:.3f}) than by straight lines between visible "
            f"ones ({line:.3f}): so far it has learnt that speech is smooth"
        )
    constant = values.get("align/over_constant")
    if constant is not None and constant >= NO_BETTER_THAN_CONSTANT:
        warned["constant"] = (
            f"the vectors are no nearer to their texts than one constant vector ({constant:.2f} of "
            "its distance)"
        )
    reference, other = values.get("match/other_true"), values.get("match/other")
    if reference is not None and other is not None and other > reference:
        warned["hedges"] = (
            f"frames match another clip's text ({other:.2f}) better than that clip's true tokens "
            f"would match it ({reference:.2f}): they hedge, and a falling loss says little"
        )
    return warned


WORDS = Words(note, warnings, unit="frames")
