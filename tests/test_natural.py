"""The plan of the study on natural speech: commands that exist, in an order that works, resumed."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench import natural, natural_hearing, natural_picture
from bench.cells import Cell, overview, record_of, records_of, run, with_needs
from bench.natural import FULL, SEEDS, SMALL, TASKS, cells
from bench.natural_tests import (
    QUESTIONS,
    Comparison,
    comparisons,
    figures,
    hours_table,
    join_runs,
    primary_table,
    read_values,
    secondary_table,
    values_of,
    with_earlier,
    write_values,
)
from pipeline.foundation.errors import SpeechkdError
from stages import distill
from stages.cli import STAGES
from stages.options import parse

COMMANDS = {name: settings for stage in STAGES for name, (settings, _) in stage.COMMANDS.items()}

OTHER_SEEDS = tuple(map(str, SEEDS[1:]))
"""Their commands are those of the first seed."""


@pytest.fixture(scope="module")
def every():
    return cells(Path("data"), Path("out"), FULL)


def test_commands_take_their_words_and_stand_behind_what_they_need(every):
    before: set[str] = set()
    for cell in every:
        assert cell.name not in before
        assert set(cell.needs) <= before, cell.name
        before.add(cell.name)
        module, *words = cell.command
        alike = cell.kind == "judge" and f"all-none-{SEEDS[0]}" not in cell.name
        if module == "stages.cli" and not alike and not cell.name.endswith(OTHER_SEEDS):
            name = next(n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS)
            parse(name, COMMANDS[name], words[len(name.split()) :])
    with pytest.raises(SpeechkdError):
        parse("distill", distill.DistillSettings, ["out/all/vector", "--no-such-flag"])


def test_each_taught_student_has_a_twin_and_the_one_without_a_teacher_at_each_seed(every):
    students = {cell.name.removeprefix("student/") for cell in every if cell.kind == "student"}
    for run_ in students:
        part, _, rest = run_.partition("-")
        arm, _, seed = rest.rpartition("-")
        assert f"{part}-none-{seed}" in students
        if arm not in {"none", "whisbert-twin"} and not arm.endswith("-shuffled"):
            assert f"{part}-{arm}-shuffled-{seed}" in students
    distilled = [c for c in every if c.name.startswith("student/all-") and "distill" in c.command]
    for cell in distilled:
        middle = "clip-middle" in cell.name  # has the same clips, from another layer
        assert cell.command[2] == f"out/all/vector{'-middle' if middle else ''}", "equal texts"
    for cell in every:
        if cell.kind == "student":
            assert {"--init", "--init-text"} & set(cell.command), "one base for all"
            assert "out/base/student" in cell.command
    for arm, others in natural.secondary_questions().items():
        part, _, rest = arm.partition("-")
        for name in (arm, *others):
            whole = name if part in natural.KINDS_OF_SPEECH else f"all-{name}"
            assert f"{whole}-{SEEDS[0]}" in students
    for seed in SEEDS:
        assert {f"all-{arm}-{seed}" for arm in natural.PRIMARY} <= students
        for name, task in TASKS.items():
            wanted = f"judge/{name}/all-word-crd-{seed}"
            assert (wanted in {cell.name for cell in every}) or not task.primary


def test_what_joined_is_asked_of_each_primary_student_of_the_first_seeds(every):
    names = {cell.name for cell in every}
    runs = {f"all-{arm}-{seed}" for arm in natural.PRIMARY for seed in SEEDS[: natural.FEW]}
    again = {f"all-{arm}-{seed}" for arm in ("none", "word-crd", "word-crd-shuffled")
             for seed in natural.AGAIN}  # fmt: skip
    for task in (*natural.LATER_TASKS, "blimp"):
        asked = runs | (again if task == "mosei" else set())
        assert {name for name in names if name.startswith(f"judge/{task}/")} == {
            f"judge/{task}/{run_}" for run_ in asked
        }
    for run_ in again:
        assert {name for name in names if name.endswith(f"/{run_}")} == {
            f"student/{run_}", f"judge/mosei/{run_}",
        }  # fmt: skip


def test_the_question_that_followed_is_asked_of_its_own_seeds_alone():
    values = {
        ("mosei", arm): {SEEDS[0]: 0.5, SEEDS[1]: 0.5 + gain, **dict.fromkeys(natural.AGAIN, other)}
        for arm, gain, other in (("none", 0.0, 0.4), ("word-crd", 0.2, 0.3))
    }
    rows = [row for row in natural.secondary_tables(values).splitlines() if " over " in row]
    assert [row.split("|")[2].split()[0] for row in rows] == ["+10.00", "-10.00"]


def test_minimal_pairs_count_alike_whatever_file_they_are_of(tmp_path):
    run_ = f"all-none-{SEEDS[0]}"
    scores = {run_: {"mean": 0.9, "over_pairs": 0.75}}
    content = {"scores": scores, "supplement": {"scores": {run_: {"mean": 0.8, "over_pairs": 0.6}}}}
    (tmp_path / "blimp").mkdir()
    (tmp_path / "blimp" / f"{run_}.json").write_text(json.dumps(content))
    assert values_of(tmp_path, {f"judge/blimp/{run_}"}) == {
        ("blimp", "none"): {SEEDS[0]: 0.75}, ("supplement", "none"): {SEEDS[0]: 0.6},
    }  # fmt: skip
    assert values_of(tmp_path, set()) == {}


def test_acts_keep_some_dialogues_of_training_and_all_others(tmp_path):
    for path, group in natural.TALK.values():
        rows = [("train", f"d{i:02}", f"{part} of {i}") for i in range(11) for part in "ab"]
        rows += [("val", "v", 'says "so"'), ("test", "t", "okay")]
        (tmp_path / path).parent.mkdir()
        with gzip.open(tmp_path / path, "wt", encoding="utf-8") as file:
            file.write(f"split\t{group}\ttext\n")
            file.writelines("\t".join(row) + "\n" for row in rows)
    natural.make_acts(tmp_path, tmp_path)
    for name, (_, group) in natural.TALK.items():
        kept = (tmp_path / f"acts-{name}.tsv").read_text(encoding="utf-8").splitlines()
        assert kept[0] == f"split\t{group}\ttext"
        of = [line.split("\t") for line in kept[1:]]
        trained = range(0, 11, natural.ACTS[name])
        assert [row[1] for row in of] == [f"d{i:02}" for i in trained for _ in "ab"] + ["v", "t"]
        assert of[-2] == ["val", "v", 'says "so"']


def test_each_arm_has_the_one_objective_and_the_level_that_its_name_says():
    """A flag that is given twice adds an objective to the first one."""
    for arm, flags in natural.ARMS.items():
        settings = parse("distill", distill.DistillSettings, ["cache", "--out", "run", *flags])
        level, _, rest = arm.removesuffix("-shuffled").partition("-")
        objective = rest if rest in {"crd", "nst", "infonce", "l1"} else "crd"
        levels = {"both": "clip+word", "none": "clip", "words": "word"}
        assert settings.kd == ["none" if arm == "none" else objective]
        assert settings.level == levels.get(level, level)


def test_two_students_differ_in_what_their_names_say_alone(every):
    """Same base, texts, steps and seed; the control is in the flags or in the rows it hears."""
    of = {cell.name: set(cell.command) for cell in every if cell.kind == "student"}
    for arm in natural.ARMS:
        if arm.endswith("-shuffled") and arm != "words-of-clip-shuffled":
            one, two = (of[f"student/all-{a}-7816"] for a in (arm.removesuffix("-shuffled"), arm))
            own = {w for w in one ^ two if "/runs/" not in w}
            rows = {"out/all/heard", "out/all/heard-other"}
            assert own == (rows if arm.startswith("token") else {"--control", "shuffled"})


def test_the_plan_fits_its_budget_and_tells_every_command(every, tmp_path):
    later = (*natural.LATER_TASKS, "acts", "blimp", "word-larger", "words-larger")
    later += tuple(map(str, natural.AGAIN))
    first = [cell for cell in every if not any(name in cell.name for name in later)]
    assert sum(cell.core_s for cell in first) < 24 * 3600
    plan = overview(tmp_path, every, commands=True)
    assert all(f"# {cell.name}: " in plan for cell in every)
    assert f"| all | {len(every)} | 0 |" in plan


def test_a_part_does_what_is_ready_and_nothing_twice(tmp_path):
    well, ill = ("timeit", "-n1", "-r1", "pass"), ("no_such_module",)
    every = [Cell("a", well), Cell("b", well, ("a",)), Cell("c", ill), Cell("d", well, ("c",))]
    assert run(tmp_path, every, (1, 4), 0) == 3, "b waits for a"
    assert run(tmp_path, every, (0, 4), 0) == 0
    assert run(tmp_path, every, (1, 4), 0) == 0
    first = record_of(tmp_path, every[1])
    assert run(tmp_path, every, (1, 4), 0) == 0
    assert record_of(tmp_path, every[1]) == first
    assert (tmp_path / "logs" / "b.log").read_text().count("$ python -m timeit") == 1
    assert run(tmp_path, every, (0, 1), 0) == 1, "c fails, and d never is ready"
    changed = [Cell("a", (*well, "again"))]
    assert not record_of(tmp_path, changed[0]), "another command is not done"


def test_a_cell_is_done_if_all_that_it_needs_is_done(tmp_path):
    every = [Cell("base", ("a",)), Cell("student/a", ("b",), ("base",)),
             Cell("judge/a", ("c",), ("tables", "student/a"))]  # fmt: skip
    (tmp_path / "cells").mkdir()
    for cell in every:
        record = {"command": list(cell.command), "core_s": 1.0}
        path = tmp_path / "cells" / f"{cell.name.replace('/', '--')}.json"
        path.write_text(json.dumps(record))
    assert [*records_of(tmp_path, every)] == ["base", "student/a", "judge/a"]
    assert [*records_of(tmp_path, every[2:])] == ["judge/a"], "of others nothing is asked"
    retrained = [Cell("base", ("a", "--epochs", "9")), *every[1:]]
    assert record_of(tmp_path, retrained[2]), "by its own words it is"
    assert not records_of(tmp_path, retrained)
    assert "| all | 3 | 0 |" in overview(tmp_path, retrained, commands=False)
    assert run(tmp_path, retrained, (2, 3), 0) == 3, "it waits for its student"


def test_only_the_training_split_of_talk_is_trained_on(tmp_path, monkeypatch):
    data = tmp_path / "data"
    for name, group in (("swda", "dialogue"), ("mrda", "meeting")):
        (data / name).mkdir(parents=True)
        rows = [f"split\t{group}\ttext", "train\t7\twell, uh", "val\t8\tno", "test\t9\tno"]
        (data / name / f"{name}.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    monkeypatch.setattr(natural.capitals, "main", lambda _: None)
    natural.make_tables(data, tmp_path / "out")
    wanted = "recording\ttext\nswda-7\twell, uh\nmrda-7\twell, uh\n"
    assert (tmp_path / "out" / "texts.tsv").read_text() == wanted


def test_a_cell_can_be_had_with_all_that_it_needs_and_small():
    small = cells(Path("data"), Path("out"), SMALL)
    chosen = with_needs(small, ["judge/valence/all-none-7816"])
    assert [cell.kind for cell in chosen][-3:] == ["base", "student", "judge"]
    assert not any("words" in cell.name for cell in chosen)
    heard = [cell.name for cell in with_needs(small, ["student/all-token-ctal-7816"])]
    assert heard[-3:] == ["ctal", "heard/heard", "student/all-token-ctal-7816"]
    assert all("--max-steps" in cell.command for cell in chosen if cell.kind == "student")
    with pytest.raises(SystemExit, match="no cell begins with"):
        with_needs(small, ["nothing"])


DATA = {"name": "table.csv", "sha256": "d1", "split": {"origin": "folds", "seed": 0}}
RECIPE = {"epochs": 3, "pooling": "mean", "value_scale": "standard"}


def write_results(out, task, run_, metrics, data=DATA, recipe=RECIPE, seed=0):
    """Results of a student on a task, a fold for each of the metrics; the name of their cell."""
    folder = out / "results" / task / run_
    folder.mkdir(parents=True)
    fixed = {"data": data, "recipe": recipe, "seed": seed}
    rows = [{**fixed, "fold": str(fold), "metrics": m} for fold, m in enumerate(metrics)]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"judge/{task}/{run_}"


def test_primary_comparisons_are_paired_over_seeds_and_the_family_is_whole(tmp_path):
    gains, done = (0.10, 0.12, 0.11, 0.13, 0.09), set()
    for seed, gain in zip(SEEDS, gains, strict=True):
        for arm, value in (("none", 0.5), ("word-crd", 0.5 + gain), ("word-crd-shuffled", 0.49)):
            folds = [{"pearson": value - 0.1, "mae": 1.0}, {"pearson": value + 0.1, "mae": 1.0}]
            done.add(write_results(tmp_path, "valence", f"all-{arm}-{seed}", folds))
    done.add(write_results(tmp_path, "valence", "acted-none-7816", [{"pearson": 0.9}] * 2))
    done.add(write_results(tmp_path, "valence", "acted-word-crd-7816", [{"pearson": 0.95}] * 2))
    done.add(write_results(tmp_path, "arousal", "all-none-7816", [{"pearson": 0.9}]))
    write_results(tmp_path, "arousal", "all-clip-crd-7816", [{"pearson": 0.9}])  # of some folds
    primary = comparisons(values_of(tmp_path, done))
    assert [(one.task, one.arm, one.other) for one in primary] == [
        ("valence", "word-crd", "none"),
        ("valence", "word-crd", "word-crd-shuffled"),
    ]
    first = primary[0]
    np.testing.assert_allclose(sorted(first.gains), sorted(gains))
    by_hand = stats.ttest_rel([0.5 + gain for gain in gains], [0.5] * 5)
    np.testing.assert_allclose(first.p, by_hand.pvalue)
    low, high = by_hand.confidence_interval(0.95)
    np.testing.assert_allclose([first.mean - first.half_width, first.mean + first.half_width],
                               [low, high])  # fmt: skip
    table = primary_table(values_of(tmp_path, done))
    assert "1 of 8 hypotheses can be asked" in table
    both = max(one.p for one in primary)
    words = "word-crd is better than none and word-crd-shuffled"
    assert f"| valence | {words} | 5 | {both:.4f} | {8 * both:.4f} | yes |" in table
    secondary = natural.secondary_tables(values_of(tmp_path, done))
    assert "| `acted-word-crd` over `acted-none` | – | – | +5.00 ± ? | 1.000 | 1 |" in secondary
    assert "`word-crd` over `none`" not in secondary, "that is primary"


def test_an_arm_has_to_be_better_than_both_others(tmp_path):
    done = set()
    for place, seed in enumerate(SEEDS):
        for arm, value in (("none", 0.1), ("clip-crd", 0.3), ("clip-crd-shuffled", 0.5)):
            metrics = [{"pearson": value + 0.01 * place * (arm == "clip-crd")}]
            done.add(write_results(tmp_path, "valence", f"all-{arm}-{seed}", metrics))
    over_none, over_twin = comparisons(values_of(tmp_path, done))
    assert over_none.p < 0.001
    assert over_twin.p < 0.001, "but it is worse"
    words = "clip-crd is better than none and clip-crd-shuffled"
    assert f"| valence | {words} | 5 | 1.0000 | 1.0000 | not shown |" in primary_table(
        values_of(tmp_path, done)
    )


def test_a_question_is_of_the_seeds_that_all_its_arms_have_and_of_three_at_least(tmp_path):
    seeds = {"none": SEEDS, "word-crd": SEEDS, "word-crd-shuffled": SEEDS[:3],
             "clip-crd": SEEDS, "clip-crd-shuffled": SEEDS[3:]}  # fmt: skip
    gains, done = dict(zip(SEEDS, (0.2, 0.21, 0.22, 0.8, 0.9), strict=True)), set()
    for arm, some in seeds.items():
        for seed in some:
            value = 0.1 + gains[seed] if arm in ("word-crd", "clip-crd") else 0.1
            done.add(write_results(tmp_path, "valence", f"all-{arm}-{seed}", [{"pearson": value}]))
    of = {(c.arm, c.other): c.gains for c in comparisons(values_of(tmp_path, done))}
    for arm in ("word-crd", "clip-crd"):
        shared = len(seeds[f"{arm}-shuffled"])
        assert len(of[arm, "none"]) == len(of[arm, f"{arm}-shuffled"]) == shared
    np.testing.assert_allclose(sorted(of["word-crd", "none"]), [0.2, 0.21, 0.22])
    table = primary_table(values_of(tmp_path, done))
    assert "1 of 8 hypotheses can be asked" in table, "clip-crd has two seeds that count"
    p = stats.ttest_1samp([0.2, 0.21, 0.22], 0.0).pvalue
    words = "word-crd is better than none and word-crd-shuffled"
    assert f"| valence | {words} | 3 | {p:.4f} | {8 * p:.4f} | yes |" in table
    assert "clip-crd is better" not in table
    secondary = secondary_table(
        values_of(tmp_path, done), ["valence"], {"word-crd": ("word-crd-shuffled", "clip-crd")}
    )
    assert "| `word-crd` over `clip-crd` | +0.00 ± ? | 1.000 | 5 |" in secondary
    assert "over `word-crd-shuffled`" in secondary, "each pair has seeds of its own there"


@pytest.mark.parametrize(
    ("other", "folds", "told"),
    [
        ({"data": DATA | {"sha256": "d2"}}, 2, "data.sha256: d2 and d1"),
        ({"data": DATA | {"kind": "words"}}, 2, "data.kind: words and None"),
        ({"recipe": RECIPE | {"pooling": "cls"}}, 2, "recipe.pooling: cls and mean"),
        ({"seed": 1}, 2, "fold and fine-tuning seed"),
        ({}, 1, "fold and fine-tuning seed"),
    ],
)
def test_students_of_other_data_another_recipe_or_other_folds_are_no_pair(
    tmp_path, other, folds, told
):
    metrics = [{"pearson": 0.4}] * 2
    done = {write_results(tmp_path, "valence", "all-none-7816", metrics),
            write_results(tmp_path, "arousal", "all-none-7816", metrics[:1], **other)}  # fmt: skip
    assert len(values_of(tmp_path, done)) == 2, "each task is a table of its own"
    name = write_results(tmp_path, "valence", "all-word-crd-7816", metrics[:folds], **other)
    assert len(values_of(tmp_path, done)) == 2, "it is not done"
    for table in (values_of, figures):
        with pytest.raises(SpeechkdError) as error:
            table(tmp_path, done | {name})
        for word in ("valence/all-word-crd-7816", "valence/all-none-7816", told):
            assert word in str(error.value)


def test_what_a_record_of_before_does_not_say_is_as_it_was(tmp_path):
    metrics = [{"pearson": 0.4}]
    done = {write_results(tmp_path, "valence", "all-none-7816", metrics, recipe={"epochs": 3}),
            write_results(tmp_path, "valence", "all-none-9573", metrics,
                          recipe={"epochs": 3, "text_form": "as-is"})}  # fmt: skip
    assert len(values_of(tmp_path, done)["valence", "none"]) == 2


def test_a_correlation_that_is_not_defined_counts_as_none_in_every_table(tmp_path):
    metrics = [{"pearson": None, "mae": 1.0, "recall": [1]}, {"pearson": 0.4, "mae": 2.0}]
    done = {write_results(tmp_path, "valence", "all-none-7816", metrics)}
    write_results(tmp_path, "valence", "all-none-9573", metrics)
    assert values_of(tmp_path, done) == {("valence", "none"): {7816: 0.2}}
    assert figures(tmp_path, done).splitlines()[2:] == [
        "| valence | all-none-7816 | pearson | 0.2000 | 2 |",
        "| valence | all-none-7816 | mae | 1.5000 | 2 |",
    ]


def test_figures_outlive_their_folder_and_meet_no_student_of_another_base(tmp_path):
    done = {write_results(tmp_path, "valence", f"all-{arm}-{seed}", [{"pearson": value}])
            for seed in SEEDS[:2] for arm, value in (("none", 0.1), ("word-crd", 0.3))}  # fmt: skip
    here = values_of(tmp_path, done)
    file = tmp_path / "results" / "one.json"
    write_values(here, file)
    assert read_values(file) == here
    assert set(json.loads(file.read_text())) == {"commit", "tasks"}
    earlier = {
        ("valence", "none"): {SEEDS[0]: 0.8, SEEDS[1]: 0.9, SEEDS[2]: 0.2},
        ("valence", "word-crd"): {SEEDS[0]: 0.9, SEEDS[1]: 1.0, SEEDS[2]: 0.7},
        ("valence", "word-crd-shuffled"): {SEEDS[1]: 0.9, SEEDS[2]: 0.1},
    }
    both = join_runs(here, earlier, "one")
    assert both["valence", "none"] == {
        SEEDS[0]: 0.1, SEEDS[1]: 0.1, f"{SEEDS[1]}, one": 0.9, f"{SEEDS[2]}, one": 0.2,
    }, "the first seed is here as a whole, the second is not"  # fmt: skip
    questions = {"word-crd": ("none", "word-crd-shuffled")}
    apart = comparisons(both, ["valence"], questions, together=False)
    np.testing.assert_allclose(sorted(apart[0].gains), [0.2, 0.2, 0.5])
    np.testing.assert_allclose(sorted(apart[1].gains), [0.1, 0.6])
    third = join_runs(both, {("valence", "none"): {SEEDS[2]: 0.0}}, "two")
    assert comparisons(third, ["valence"], questions, together=False) == apart, "another base"


def test_a_seed_of_both_runs_counts_once_where_each_comparison_has_its_own_pairs():
    """The later run lacks the twin at that seed, so that the earlier figures are joined."""
    here = {("stress", "none"): {7: 0.1}, ("stress", "word-crd"): {7: 0.4}}
    earlier = {("stress", arm): {7: 0.2, 8: 0.3} for arm in ("none", "word-crd", "twin")}
    both = join_runs(here, earlier, "one")
    asked = {"word-crd": ("none", "twin")}
    found = comparisons(both, ["stress"], asked, together=False)
    assert [one.gains for one in found] == [(pytest.approx(0.3), 0.0), (0.0, 0.0)]


def test_gains_are_a_line_over_doublings_of_hours_within_one_base():
    spread = np.array([-0.01, 0.0, 0.01])
    gains = {"read-": 0.02 + spread, "acted-": 0.04 + spread, "": 0.06 + spread}
    values = {}
    for part, of_part in gains.items():
        values["stress", f"{part}none"] = dict.fromkeys(SEEDS[:3], 0.5)
        values["stress", f"{part}word-crd-shuffled"] = dict.fromkeys(SEEDS[:3], 0.8)
        values["stress", f"{part}word-crd"] = dict(zip(SEEDS, 0.5 + of_part, strict=False))
    hours = {"read-": 2.0, "acted-": 4.0, "": 8.0}
    table = hours_table(values, hours)
    *_, none, twin = (row.strip("| ").split(" | ") for row in table.splitlines())
    assert none[1:5] == ["+2.00 ± 2.48", "+4.00 ± 2.48", "+6.00 ± 2.48", "3, 3, 3"]
    slope = stats.linregress(np.repeat([1, 2, 3], 3), np.concatenate([*gains.values()]))
    width = 100 * slope.stderr * stats.t.ppf(0.975, 7)
    assert none[5:] == [f"+2.00 ± {width:.2f}", f"{slope.pvalue:.3f}"]
    assert twin[5] == none[5]
    earlier = {("stress", arm): {SEEDS[3]: value} for arm, value in
               (("none", 0.1), ("word-crd", 0.9), ("word-crd-shuffled", 0.1))}  # fmt: skip
    assert hours_table(join_runs(values, earlier, "one"), hours) == table, "another base"
    del values["stress", "read-none"]
    assert "over `none`" not in hours_table(values, hours)


def test_one_seed_or_seeds_that_never_differ_prove_nothing():
    for gains in ((0.3,), (0.0, 0.0), (0.2, 0.2, 0.2), (0.9 - 0.7, 0.5 - 0.3, 0.2)):
        never = Comparison("valence", "a", "b", gains)
        assert never.p == 1.0
        assert never.half_width == np.inf


def test_the_picture_has_each_gain_at_its_place_and_says_what_was_not_asked():
    of_seed = dict(enumerate((0.70, 0.72, 0.71, 0.74)))
    values = {
        ("stress", "none"): dict.fromkeys(range(4), 0.7),
        ("stress", "both-crd"): of_seed,
        ("stress", "both-crd-shuffled"): {0: 0.69, 1: 0.71},  # too few to be shown
        ("valence", "whisbert"): of_seed,
        ("valence", "whisbert-twin"): {n: value - 0.03 for n, value in of_seed.items()},
        ("valence", "whisbert-shuffled"): {n: value + 0.01 * n for n, value in of_seed.items()},
    }
    control, none = natural_picture.gains(values, "stress", "both-crd")
    assert control is None
    assert none.mean == pytest.approx(0.0175)
    figure = natural_picture.draw(values)
    stress, valence, arousal, _ = figure.axes
    names = [label.get_text() for label in stress.get_yticklabels()]
    assert names == ["Whisper → text, both levels", "WhisBERT's text encoder"]

    def means(panel):
        return [float(bars[0].get_xdata()[0]) for bars in panel.containers]

    assert means(stress) == pytest.approx([1.75])
    assert means(valence) == pytest.approx([-1.5, 3.0])
    assert means(arousal) == []
    assert [text.get_text() for text in arousal.texts] == ["not asked", "not asked"]


def test_the_page_has_the_gains_that_follow_from_the_kept_figures():
    root = Path(__file__).parent.parent
    latest, earlier = (
        root / "bench" / "results" / f"natural-{run}-run.json" for run in ("second", "first")
    )
    values = with_earlier(read_values(latest), [earlier])
    page = (root / "docs" / "natural-speech.md").read_text(encoding="utf-8")
    others = page.partition("## The other systems")[2].partition("## Hypotheses")[0]
    gains_ = re.compile(r"^\| .* over .* ± .*$", re.MULTILINE)
    assert gains_.findall(others) == gains_.findall(natural.secondary_tables(values))
    primary = page.partition("## The primary question")[2].partition("## The other systems")[0]
    for row in primary_table(values).splitlines():
        if row.startswith("|") and (" over " in row or " is better than " in row):
            assert row in primary


def test_every_figure_of_the_hearing_stands_on_its_page():
    root = Path(__file__).parent.parent
    file = json.loads((root / "bench" / "results" / "natural-hearing.json").read_text())
    page = (root / "docs" / "natural-hearing.md").read_text(encoding="utf-8").splitlines()
    rows = [row for row in natural_hearing.page_tables(file["answers"]).splitlines() if row]
    assert [row for row in page if row.startswith("|")] == rows
    assert len(rows) == (2 + 68) + 2 * (2 + 17)


def test_a_hearings_question_has_the_larger_p_and_1_where_one_goes_the_other_way():
    def gap(p, better=True):
        return {"gain": "1.0 (0.5 to 1.5)", "p": p, "better": better}

    def pairs_of(word, clip):
        pairs = {"word-crd": word, "clip-crd": clip}
        return {
            f"{arm} over {other}": one
            for arm, gaps in pairs.items()
            for other, one in zip(QUESTIONS[arm], gaps, strict=True)
        }

    table = natural_hearing.question_table(
        {
            "calls": {"differences": {"R@1": pairs_of((gap(0.001), gap(0.01)), (gap(0.002),) * 2)}},
            "other": {
                "differences": {"R@1": pairs_of((gap(0.001), gap(0.001, False)), (gap(0.5),) * 2)}
            },
        }
    )
    last = {tuple(c.strip() for c in row.split("|")[1:3]): row.split("|")[-2].strip()
             for row in table.splitlines()[2:]}  # fmt: skip
    assert last == {
        ("calls", "word-crd"): "0.030",
        ("calls", "clip-crd"): "0.008",
        ("other", "word-crd"): "1.000",
        ("other", "clip-crd"): "1.000",
    }
