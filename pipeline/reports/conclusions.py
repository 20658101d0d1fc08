"""What comparisons show, in sentences: no more than intervals and controls do."""

from collections.abc import Sequence

from pipeline.reports.comparison import Difference
from pipeline.reports.formats import NOTHING, listed
from pipeline.reports.gains import Gain, Gains
from pipeline.reports.starts import is_fresh
from pipeline.tasks.spans.table import CONTROLS

FEW_GROUPS = 20
"""Below this, percentile intervals of a bootstrap over groups leave out the truth too often."""


def sentences(gains: Gains) -> list[str]:
    """A few plain sentences on each group: what is shown, and what is not."""
    lines = [" ".join(_of_group(gains, name)) for name in gains.groups]
    return [
        *filter(None, lines),
        *_beside(gains.over_word_alone, gains),
        *_beside(gains.over_unasked, gains),
        *_beside(gains.over_start, gains),
        *_beside(gains.over_fresh, gains),
        *_alone(gains),
        *_again(gains),
    ]


def _beside(some: Sequence[Gain], gains: Gains) -> list[str]:
    """What is shown of each group beside something that is not a student, such as a word alone."""
    lines = []
    for name, against in dict.fromkeys((gain.label, gain.against) for gain in some):
        mine = [gain for gain in some if (gain.label, gain.against) == (name, against)]
        verdicts = _verdicts(mine, _most_seeds(mine))
        lines.append(f"{gains.groups[name].title} compared with {against}: {verdicts}.")
    return lines


def _alone(gains: Gains) -> list[str]:
    """Encoders that are nobody's partner: they are shown, and compared with nothing."""
    baselines = {id(mine.baseline) for mine in gains.partners.values()}
    others = [
        name
        for name, group in gains.groups.items()
        if group.first.objective is None
        and not group.first.source.startswith(tuple(CONTROLS))
        and not is_fresh(group.first)
    ]
    compared = {id(mine.fresh) for mine in gains.partners.values()}
    fresh = [
        name
        for name, group in gains.groups.items()
        if is_fresh(group.first) and id(group) not in compared
    ]
    idle = [
        name
        for name, group in gains.groups.items()
        if group.first.objective == "none" and id(group) not in baselines
    ]
    lines = []
    if others:
        lines.append(
            f"Shown and not compared, because no run of distillation made them: {listed(others)}."
        )
    if fresh:
        lines.append(
            "Shown and not compared, because no encoder here is their equal as pretrain left "
            f"it: {listed(fresh)}. fresh:RUN or scratch:RUN is compared with that RUN, and "
            "with what began with it, where they stand here, too."
        )
    if idle:
        lines.append(
            "Shown and not compared, because no student here is their equal with a teacher: "
            f"{listed(idle)}."
        )
    return lines


def _again(gains: Gains) -> list[str]:
    """Encoders that would count twice."""
    return [
        f"Of equal weights, and in comparisons counted once: {listed([*group.members])} and "
        f"{listed([*group.again])}."
        for group in gains.groups.values()
        if group.again
    ]


def _of_group(gains: Gains, name: str) -> list[str]:
    group, mine = gains.groups[name], gains.partners[name]
    if not group.is_student:
        return []
    over = [gain for gain in gains.over_baseline if gain.label == name]
    known = [gain.difference for gain in over if gain.difference]
    over_controls = [gain for gain in gains.over_control if gain.label == name]
    if mine.baseline is None and (mine.start or mine.fresh):
        return _only_over_controls(over_controls, group.title)
    if mine.baseline is None:
        return [
            f"{group.title} is shown and not compared with a student without a teacher: "
            f"{mine.why}.",
            *_only_over_controls(over_controls),
        ]
    if not over:
        return []
    seeds = sorted({one.seeds for one in known}) or [0]
    counts = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    counts += " seed" if seeds[-1] == 1 else " seeds"
    runs = {one.runs for one in known if one.runs != (1, 1)}
    for one, other in sorted(runs)[:1]:
        counts += (
            f"; pre-trained {one} times"
            if one == other
            else (f"; pre-trained {one} and {other} times")
        )
    sentences = [
        f"{group.title} compared with {mine.baseline.name} ({counts}): "
        f"{_verdicts(over, seeds[-1])}."
    ]
    if group.first.is_control:
        return sentences
    gained = [gain.measure for gain in over if gain.verdict == "better"]
    if not gained:
        return [*sentences, "No gain is shown."]
    controls = list(dict.fromkeys(gain.against for gain in over_controls))
    if not controls:
        sentences.append(
            "It has no control of its own here, with shuffled or random vectors and the same "
            "setup and weights, so the gain is not shown to come from the teacher."
        )
    return [*sentences, *(_over(gains, control, name, gained) for control in controls)]


def _only_over_controls(gains: Sequence[Gain], title: str = "") -> list[str]:
    """What is left to say of students that have a control and no equal without a teacher."""
    start = f"{title} compared" if title else "Compared"
    return [
        f"{start} with {control}: {_verdicts(mine, _most_seeds(mine))}."
        for control in dict.fromkeys(gain.against for gain in gains)
        if (mine := [gain for gain in gains if gain.against == control])
    ]


def _over(gains: Gains, control: str, name: str, gained: Sequence[str]) -> str:
    """Which of a group's gains remain when it is compared with a control."""
    better = {
        gain.measure
        for gain in gains.over_control
        if (gain.label, gain.against, gain.verdict) == (name, control, "better")
    }
    unproven = [measure for measure in gained if measure not in better]
    if not unproven:
        return f"Compared with {control}, each of these gains is beyond the noise, too."
    return (
        f"Compared with {control}, there is no gain beyond the noise in {listed(unproven)}, so "
        "the gain there is not shown to come from the teacher."
    )


def caution(gains: Gains) -> str:
    """What a reader has to keep in mind with every one of the comparisons."""
    known = [gain.difference for gain in gains.all if gain.difference is not None]
    if not known:
        return ""
    fewest = min(one.seeds for one in known)
    groups = min(one.groups for one in known)
    sentences = [
        f"Number of comparisons with 95 % intervals: {len(known)}. About one in twenty "
        "excludes zero by chance alone.",
        "The intervals come from a paired bootstrap over whole groups of test clips (in "
        "CMU-MOSEI, videos) and over fine-tuning seeds.",
        _of_pretraining(known),
    ]
    if fewest == 1:
        sentences.append(
            "Where there is only one fine-tuning seed, they do not show its noise either: such "
            "a gain may be the luck of one run."
        )
    elif fewest < 5:
        sentences.append("With fewer than five seeds they are too narrow.")
    if groups < FEW_GROUPS:
        sentences.append(
            f"The test clips are of {groups} groups only, which makes the intervals too narrow."
        )
    if not any(group.first.is_control for group in gains.groups.values()):
        sentences.append(
            "There is no control with shuffled or random teacher vectors among these encoders, "
            "and a gain that a control also gives is not distillation."
        )
    if any(partners.by_size_alone for partners in gains.partners.values()):
        sentences.append(
            "Some of these encoders come from runs that did not record their corpus, tokenizer "
            "and recipe (run.json without `comparable`). Of those, only the size is known to "
            "be equal to that of what they are compared with."
        )
    return " ".join(sentences)


def _of_pretraining(known: Sequence[Difference]) -> str:
    once = [one for one in known if not one.covers_pretraining]
    if not once:
        return (
            "The noise of pre-training is in them, by Student's t distribution over pre-training "
            "seeds."
        )
    if len(once) == len(known):
        return (
            "Each encoder was pre-trained once, so they do not show how much another pre-training "
            "seed would change."
        )
    return (
        "Where a side was pre-trained with several seeds, the noise of pre-training is in them, by "
        f"Student's t distribution; in the other {len(once)} it is not."
    )


def _most_seeds(gains: Sequence[Gain]) -> int:
    return max((gain.difference.seeds for gain in gains if gain.difference), default=0)


def _verdicts(gains: Sequence[Gain], seeds: int) -> str:
    """`better beyond the noise in a and b; no difference beyond the noise in c`."""
    noise = "the noise" if seeds > 1 else "the noise of the test clips (of fine-tuning: unknown)"
    words = {
        "better": f"better beyond {noise} in",
        "worse": f"worse beyond {noise} in",
        "noise": f"no difference beyond {noise} in",
        NOTHING: "nothing can be stated (no common seed, a single video, or no correlation) in",
    }
    by_verdict = {
        verdict: [gain.measure for gain in gains if gain.verdict == verdict] for verdict in words
    }
    return "; ".join(
        f"{words[verdict]} {listed(measures)}"
        for verdict, measures in by_verdict.items()
        if measures
    )
