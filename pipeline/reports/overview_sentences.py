"""What an overview shows, in sentences: no more than Holm's correction leaves."""

from pipeline.foundation.progress import counted
from pipeline.reports.conclusions import FEW_GROUPS
from pipeline.reports.formats import listed
from pipeline.reports.overview import LEVEL, Column, Overview, Shown, shown_of
from pipeline.reports.tables import SELECTED_ON_TEST

NOT_SHOWN = (
    "No gain is shown: after Holm's correction no student is better than both, its equal without a "
    "teacher and its own control, in any task."
)
NOTHING_TO_COMPARE = (
    "No student of a teacher stands here beside its equal without one, or beside its own control, "
    "so no gain can be stated."
)


def sentences(overview: Overview) -> list[str]:
    """What is shown of each student, over what the correction is, and what would stay unseen."""
    if not overview.size:
        return [NOTHING_TO_COMPARE]
    students = list(dict.fromkeys(line.student for line in overview.members))
    several = [_of_student(overview, name) for name in students]
    if not any(_shown_over_both(overview, name) for name in students):
        several.insert(0, NOT_SHOWN)
    stated = _stated(overview)
    some = f", of which {len(stated)} can be stated" if len(stated) < overview.size else ""
    several.append(
        f"Holm's correction is over {counted(overview.size, 'comparison')}{some}: "
        f"{listed([column.heading for column in overview.family])}, of {listed(students)}, each "
        "over its equal without a teacher and over its own controls. All else has intervals "
        "without a claim."
    )
    if any(column.mark for column in overview.columns):
        several.append(f"WARNING: where it is said, {SELECTED_ON_TEST}.")
    if overview.floor > LEVEL:
        several.append(
            "WARNING: the draws of an interval cannot show a p so small that it would count among "
            f"{overview.size}. Name a smaller family with --holm-task and --holm-student."
        )
    once = sum(shown.runs == (1, 1) for _, shown in stated)
    if once:
        several.append(
            f"WARNING: in {once} of these comparisons each side was pre-trained once, so that p "
            "and interval say nothing of another pre-training seed."
        )
    if luck := sum(shown.seeds == 1 for _, shown in stated):
        several.append(
            f"WARNING: {luck} of these comparisons are of one fine-tuning seed, whose luck p and "
            "interval do not hold."
        )
    if few := sum(shown.units is not None and shown.units < FEW_GROUPS for _, shown in stated):
        several.append(
            f"WARNING: in {few} of these comparisons fewer than {FEW_GROUPS} videos, recordings or "
            "the like are drawn, so that p is too low and the interval too narrow."
        )
    return [*several, *_unseen(stated)]


def _stated(overview: Overview) -> list[tuple[Column, Shown]]:
    pairs = ((column, shown_of(line, column)) for line, column in overview.pairs)
    return [(column, shown) for column, shown in pairs if shown]


def _unseen(stated: list[tuple[Column, Shown]]) -> list[str]:
    widths = sorted((shown.high - shown.low) / 2 for column, shown in stated if column.percent)
    if not widths:
        return []
    return [
        f"Half of an interval is {100 * widths[0]:.1f} to {100 * widths[-1]:.1f} points here, in "
        f"the middle {100 * widths[len(widths) // 2]:.1f}: a gain that is much smaller would stay "
        "unseen."
    ]


def _better(overview: Overview, name: str) -> tuple[set[Column], set[Column]]:
    """Where a student is better than its equal without a teacher, and than all its controls."""
    lines = [line for line in overview.members if line.student == name]

    def better(*, over_control: bool) -> set[Column]:
        some = [line for line in lines if line.first.over_control == over_control]
        return {
            column
            for column in overview.family
            if (mine := [line for line in some if column in line.by_column])
            and all(overview.is_better(line, column) for line in mine)
        }

    return better(over_control=False), better(over_control=True)


def _shown_over_both(overview: Overview, name: str) -> bool:
    over, own = _better(overview, name)
    return bool(over & own)


def _of_student(overview: Overview, name: str) -> str:
    lines = [line for line in overview.members if line.student == name]
    over, own = _better(overview, name)

    def said(columns: set[Column]) -> str:
        return listed([column.heading for column in overview.family if column in columns])

    parts = []
    if both := over & own:
        parts.append(f"better than without a teacher and than its control in {said(both)}")
    if alone := over - own:
        has_control = any(line.first.over_control for line in lines)
        why = "not shown to be better than its control" if has_control else "it has no control here"
        parts.append(f"better than without a teacher alone in {said(alone)} ({why})")
    if twin := own - over:
        has_equal = any(not line.first.over_control for line in lines)
        why = "it has no equal without one"
        if has_equal:
            why = "not shown to be better than without a teacher"
        parts.append(f"better than its control alone in {said(twin)} ({why})")
    worse = {
        column
        for line in lines
        for column in overview.family
        if (p := overview.adjusted(line, column)) is not None
        and p <= LEVEL
        and (shown := shown_of(line, column))
        and shown.mean < 0
    }
    if worse:
        parts.append(f"WORSE than one of the two in {said(worse)}")
    lacks = []
    if all(line.first.over_control for line in lines):
        lacks.append("has no equal without a teacher here")
    if not any(line.first.over_control for line in lines):
        lacks.append("has no control here")
    remark = f" (it {listed(lacks)})" if lacks and not over and not own else ""
    return f"{name}: {'; '.join(parts) or f'no gain is shown{remark}'}."
