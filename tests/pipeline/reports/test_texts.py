"""A report says in which form texts were read, and warns of what encoders do not know of them."""

from pipeline.models.unknown import Unknown
from pipeline.reports.texts import on_texts
from tests.helpers.finished import cell, checkpoint

MUCH = Unknown(1000, 72, 100, 75, (".", "!"))
LITTLE = Unknown(1000, 1, 100, 1, ("é",))
NONE = Unknown(1000, 0, 100, 0)


def finished(label, unknown, **changes):
    return cell(label, checkpoint(label), unknown_tokens=unknown, **changes)


def test_encoders_with_many_unknown_tokens_are_warned_of_together():
    cells = [finished("a", MUCH), finished("b", MUCH), finished("c", LITTLE), finished("d", NONE)]
    warning, known = on_texts(cells)
    assert warning.startswith(
        "WARNING: to a and b 7.2 % of the tokens (72 of 1,000) are unknown, in 75.0 % of the "
        "texts; most often '.', '!'."
    )
    assert known == "Unknown tokens: c 0.10 %, d 0.00 %."


def test_the_form_of_the_texts_is_said_if_it_is_not_their_own():
    (line,) = on_texts([finished("a", None, recipe={"text_form": "no-punctuation"})])
    assert line == (
        "All texts, of training and test, were read in lower case and without punctuation "
        "(--text-form no-punctuation)."
    )
    assert on_texts([finished("a", None, recipe={"text_form": "as-is"})]) == []


def test_cells_of_earlier_versions_say_nothing():
    assert on_texts([cell()]) == []
