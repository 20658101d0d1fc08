"""One table of student × task: whose gains stand in it, and what Holm's correction leaves."""

from dataclasses import replace

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.figures import DOTS_PER_INCH
from pipeline.reports.holm import holm
from pipeline.reports.overview import Column, Comparison, Overview, Shown
from pipeline.reports.overview_page import chapters, overview_sections
from pipeline.reports.overview_picture import controls_of_students, draw
from pipeline.reports.overview_sentences import NOT_SHOWN, NOTHING_TO_COMPARE, sentences
from pipeline.reports.page import Section, as_html, as_markdown
from pipeline.reports.partners import groups_of
from tests.helpers.finished import checkpoint

ENCODERS = {
    label: replace(
        checkpoint(label, objective, control, weights_sha256=label),
        setup={"texts": "t"},
        teaching=None if objective == "none" else {"level": level},
    )
    for label, objective, control, level in (
        ("none", "none", None, ""),
        ("clip", "crd", "real", "clip"),
        ("clip-twin", "crd", "shuffled", "clip"),
        ("word", "crd", "real", "word"),
    )
}
GROUPS = {group.name: group for group in groups_of(ENCODERS)}


def column(name, key="accuracy", number="1", **changes):
    fields = {"first": key == "accuracy", "percent": True, "chapter": "c", **changes}
    return Column(f"{number}: {name}", name, key, key, **fields)


def one(where, student, other, mean, p=0.001, runs=(3, 3)):
    shown = None if mean is None else Shown(mean, mean - 0.01, mean + 0.01, p, 5, runs, 0.0002)
    return Comparison(where, GROUPS[student], GROUPS[other], shown)


A, B = column("a"), column("b", number="2")
SOME = [
    one(A, "clip", "none", 0.05),
    one(A, "clip", "clip-twin", 0.04),
    one(A, "clip-twin", "none", 0.01, 0.3),
    one(B, "clip", "none", 0.05),
    one(B, "clip", "clip-twin", 0.001, 0.4),
    one(B, "word", "none", -0.05),
    one(column("a", "weighted_f1"), "clip", "none", 0.02, 0.02),
]


def test_a_line_is_a_student_and_what_it_is_compared_with_and_controls_come_last():
    grid = Overview(SOME, [], []).grid()
    assert grid[0] == ["student", "compared with", "a: accuracy", "b: accuracy"]
    assert [row[:2] for row in grid[1:]] == [
        ["clip", "none"],
        ["clip", "clip-twin"],
        ["word", "none"],
        ["clip-twin", "none"],
    ]
    assert grid[1][2] == "+5.00 (+4.00 to +6.00) *"
    assert grid[2][3] == "+0.10 (-0.90 to +1.10)"
    assert grid[3][2] == "–"


def test_the_correction_is_over_what_was_asked_of_students_and_not_of_controls():
    overview = Overview(SOME, [], [])
    assert overview.size == 5
    adjusted = [overview.adjusted(line, where) for line, where in overview.pairs]
    assert adjusted == holm([0.001, 0.001, 0.001, 0.4, 0.001], 5)
    assert not any(line.is_control for line, _ in overview.pairs)


def test_a_named_family_counts_what_is_missing_of_it():
    """So that a grid that is half done is not judged as if no more had been asked."""
    overview = Overview(SOME, ["a:weighted_f1", "b"], ["clip", "word"])
    assert [where.heading for where in overview.family] == ["b: accuracy", "a: weighted_f1"]
    assert overview.size == 2 * (2 + 2)  # the control of "word" is not there
    clip = next(line for line in overview.lines if line.student == "clip")
    assert overview.adjusted(clip, overview.family[0]) == 0.008
    assert [c.heading for c in overview.columns] == ["a: accuracy", "b: accuracy", "a: weighted_f1"]
    assert Overview(SOME, ["a:weighted_f1", "b"], []).size == 4
    assert overview.details()[3][3:6] == ["-5.00 (-6.00 to -4.00)", "0.0010", "0.0080"]


@pytest.mark.parametrize(
    ("tasks", "students", "told"),
    [
        (["c"], [], r"--holm-task c: no comparison is of that; there are a:accuracy, b:accuracy"),
        ([], ["clip-twin"], r"--holm-student clip-twin: no such student .* there are clip, word"),
    ],
)
def test_a_family_of_what_is_not_there_is_refused(tasks, students, told):
    with pytest.raises(SpeechkdError, match=told):
        Overview(SOME, tasks, students)


def test_tasks_of_one_name_from_two_sets_have_columns_of_their_own():
    other = replace(A, task="3: a")
    overview = Overview([one(A, "clip", "none", 0.05), one(other, "clip", "none", 0.01)], [], [])
    assert overview.grid()[0][2:] == ["1: a: accuracy", "3: a: accuracy"]
    text = as_markdown(overview_sections(overview, [], ["1: here", "3: there"]))
    assert "The number before a task is that of its results: 1: here; 3: there." in text
    assert "The number before" not in as_markdown(overview_sections(Overview(SOME, [], []), []))
    assert Overview(SOME, ["a"], []).grid()[0][2] == "a: accuracy"


def test_students_of_other_seeds_on_another_task_are_one_line_and_of_another_setup_are_not():
    encoders = {
        f"clip-{seed}": replace(ENCODERS["clip"], label=f"clip-{seed}", weights_sha256=str(seed))
        for seed in (1, 2)
    }
    (both,) = groups_of(encoders)
    (first,) = groups_of({"clip-1": encoders["clip-1"]})
    shown = Shown(0.05, 0.04, 0.06, 0.001, 5, (2, 1), 0.0002)
    pair = [Comparison(A, both, GROUPS["none"], shown), Comparison(B, first, GROUPS["none"], shown)]
    (line,) = Overview(pair, [], ["clip-1"]).lines
    assert line.student == "clip"
    wide = {"clip-1": replace(encoders["clip-1"], setup={"texts": "u"}, weights_sha256="u")}
    pair[1] = replace(pair[1], student=groups_of(wide)[0])
    assert len(Overview(pair, [], []).lines) == 2


def test_students_that_records_do_not_tell_apart_keep_lines_of_their_own():
    """Two of one seed, of before setups were recorded: neither figure takes the other's place."""
    old = {
        label: checkpoint(label, objective, weights_sha256=label)
        for label, objective in (("none", "none"), ("crd-a", "crd"), ("crd-b", "crd"))
    }
    none, first, second = groups_of(old)
    shown = Shown(0.05, 0.04, 0.06, 0.001, 5, (1, 1), 0.0002)
    pair = [
        Comparison(A, first, none, shown),
        Comparison(A, second, none, replace(shown, mean=-0.05, low=-0.06, high=-0.04)),
    ]
    overview = Overview(pair, [], [])
    assert overview.size == 2
    assert [(row[0], row[2][:5]) for row in overview.grid()[1:]] == [
        ("crd-a", "+5.00"),
        ("crd-b", "-5.00"),
    ]


def test_other_students_of_the_same_label_have_another_name():
    wide = {
        label: replace(one, setup={"texts": "u"}, weights_sha256=f"{label} u")
        for label, one in ENCODERS.items()
    }
    groups = {group.name: group for group in groups_of(wide)}
    other = Comparison(B, groups["clip"], groups["none"], SOME[0].shown)
    overview = Overview([SOME[0], other], [], [])
    lines = [(line.student, line.other) for line in overview.lines]
    assert lines == [("clip #1", "none #1"), ("clip #2", "none #2")]
    assert sentences(overview)[2].startswith("clip #2: ")


def test_sentences_say_no_more_than_the_correction_leaves():
    told = sentences(Overview(SOME, [], []))
    assert told[0] == (
        "clip: better than without a teacher and than its control in a: accuracy; better "
        "than without a teacher alone in b: accuracy (not shown to be better than its control)."
    )
    assert told[1] == "word: WORSE than one of the two in b: accuracy."
    assert told[2].startswith("Holm's correction is over 5 comparisons: a: accuracy and b: ")
    assert told[3].startswith("Half of an interval is 1.0 to 1.0 points")
    nothing = sentences(Overview([one(A, "word", "none", 0.01, 0.3, (1, 1))], [], []))
    assert nothing[:2] == [NOT_SHOWN, "word: no gain is shown (it has no control here)."]
    assert any("in 1 of these comparisons each side was pre-trained once" in s for s in nothing)
    assert sentences(Overview([], [], [])) == [NOTHING_TO_COMPARE]
    missing = sentences(Overview([one(A, "word", "none", None)], [], []))
    assert any("over 1 comparison, of which 0 can be stated" in sentence for sentence in missing)


def test_what_p_does_not_hold_is_said_where_it_stars():
    shown = replace(SOME[0].shown, seeds=1, units=19)
    told = sentences(Overview([replace(SOME[0], shown=shown), SOME[1]], [], []))
    assert any("1 of these comparisons are of one fine-tuning seed" in one for one in told)
    assert any("in 1 of these comparisons fewer than 20 videos" in one for one in told)
    enough = replace(shown, seeds=2, units=20)
    told = sentences(Overview([replace(SOME[0], shown=enough)], [], []))
    assert not any("WARNING" in one for one in told)


def test_a_family_too_large_for_its_draws_is_said():
    many = [one(column(str(n)), "word", "none", 0.05, 0.0002) for n in range(251)]
    assert any("cannot show a p so small" in s for s in sentences(Overview(many, [], [])))
    assert not any("cannot show" in s for s in sentences(Overview(many[:250], [], [])))


def test_the_picture_has_a_panel_per_task_and_needs_a_gain_over_no_teacher():
    picture = draw(Overview(SOME, [], []))
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert draw(Overview([one(A, "clip", "clip-twin", 0.04)], [], [])) is None


def test_the_picture_has_all_controls_of_a_student():
    noise = {"random": replace(ENCODERS["clip-twin"], label="random", control="random",
                               weights_sha256="random")}  # fmt: skip
    (random,) = groups_of(noise)
    more = [
        Comparison(A, GROUPS["clip"], random, SOME[0].shown),
        Comparison(A, random, GROUPS["none"], SOME[0].shown),
    ]
    rows = controls_of_students(Overview([*SOME, *more], [], []))
    assert {line.student: [c.student for c in own] for line, own in rows.items()} == {
        "clip": ["clip-twin", "random"],
        "word": [],
    }


def test_of_very_many_students_the_picture_has_the_first(monkeypatch):
    """65,536 dots are the most that a picture may be high."""
    monkeypatch.setattr("pipeline.reports.overview_page.MOST_STUDENTS", 1)
    monkeypatch.setattr("pipeline.reports.overview_picture.MOST_STUDENTS", 1)
    page = overview_sections(Overview(SOME, [], []), [])
    assert "The first 1 of 2 students are drawn." in as_markdown(page)
    many = [one(column(str(n)), "word", "none", 0.05) for n in range(3)]
    monkeypatch.setattr("pipeline.reports.overview_picture.ACROSS", 1)
    monkeypatch.setattr("pipeline.reports.overview_picture.MOST_INCHES", 3)
    picture = draw(Overview(many, [], []))
    assert int.from_bytes(picture[20:24]) < 1.5 * 3 * DOTS_PER_INCH


def test_families_are_chapters_and_their_sets_are_parts():
    sets = [("words", [Section("x", chapter="Results: p"), Section("y")]),
            ("values", [Section("z", chapter="Results: q")]),
            ("words", [Section("w", chapter="Results: r")])]  # fmt: skip
    page = overview_sections(Overview(SOME, [], []), ["speaker"]) + chapters(sets)
    heads = [line for line in as_markdown(page).splitlines() if line.startswith("#")]
    assert heads[0] == "# All tasks on one page"
    families = ["# words", "## Results: p", "### x", "### y", "## Results: r", "### w"]
    assert heads[-9:] == [*families, "# values", "## Results: q", "### z"]
    assert "no interval is stated of them: speaker." in as_markdown(page)
    html = as_html(page)
    assert '<li><a href="#chapter-2">words</a></li>' in html
    assert '<h1 id="chapter-2">words</h1>' in html
    assert "<h2>Results: q</h2>\n<h3>z</h3>" in html


def test_every_comparison_is_listed_with_its_p():
    head, *lines = Overview(SOME, [], []).all_lines()
    first = dict(zip(head, lines[0], strict=True))
    assert (first["task"], first["student"], first["compared with"]) == ("a", "clip", "none")
    assert (first["gain"], first["p"], first["holm_p"]) == (0.05, 0.001, 0.005)
    assert [line[-1] for line in lines].count("shuffled") == 1
