"""Minimal pairs on a page: files of the same pairs together, each student beside its partners."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.models.unknown import Unknown
from pipeline.reports.minimal_pairs import pair_sections, read_pair_reports
from pipeline.tasks.minimal_pairs import DEFINITIONS
from pipeline.tasks.pair_answers import BLIMP, SUPPLEMENT, Answer, Answers
from pipeline.tasks.pair_files import Pair
from pipeline.tasks.pair_scores import contrasts
from stages.report import ReportSettings, run
from tests.helpers.finished import checkpoint

PAIRS = [Pair(name, "binding", f"{name} {n}", f"{name} {n} x") for name in "pq" for n in range(40)]
MORE = [Pair("hypernym", "hypernym", f"h {n}", f"g {n}") for n in range(10)]
KINDS = {"none": ("none", None), "crd": ("crd", "real"), "twin": ("crd", "shuffled")}


def decisions(label, count=90):
    share = 0.9 if label.startswith("crd") else 0.5
    rng = np.random.default_rng(sum(map(ord, label)))
    return (rng.random(count) < share).astype(float)


def write(path, labels, pairs=PAIRS):
    """What `probe blimp --out` would write of some encoders, whose answers are drawn."""
    answers = Answers({BLIMP: pairs, SUPPLEMENT: MORE})
    for label in labels:
        seed = int("0" + "".join(filter(str.isdigit, label)))
        kind = KINDS[label.rstrip("0123456789-")]
        encoder = replace(checkpoint(label, *kind, weights_sha256=label), pretraining_seed=seed)
        unknown = Unknown(1, 0, 1, 0, (), {})
        decided_n = decisions(label, len(pairs) + len(MORE))
        answers.of[label] = Answer(
            decided_n, decided_n, encoder.record(), {BLIMP: unknown, SUPPLEMENT: unknown}
        )
    record = {"masking": "token", "definition": DEFINITIONS["token"], **answers.record()}
    path.write_text(json.dumps(record))
    return path


def changed(text, **entries):
    """The text of a file with other entries."""
    return json.dumps(json.loads(text) | entries)


def share(kind, name, text):
    """The text of a file that states another share."""
    record = json.loads(text)
    record["scores"]["none"][kind][name] = 0.123
    return json.dumps(record)


def test_files_of_the_same_pairs_are_put_together_and_others_are_not(tmp_path):
    files = [write(tmp_path / f"{label}.json", [label]) for label in KINDS]
    other = write(tmp_path / "other.json", ["none"], PAIRS[:50])
    first, second = read_pair_reports([*files, other])
    assert set(first.encoders) == set(KINDS)
    assert set(second.encoders) == {"none"}
    told = {(c.pairs, c.student.name, c.other.name) for c in first.compared}
    assert told == {
        (name, student, against)
        for name in (BLIMP, SUPPLEMENT)
        for student, against in (("crd", "none"), ("crd", "twin"), ("twin", "none"))
    }
    assert second.compared == []


def test_a_difference_of_two_runs_is_that_of_the_probe_itself(tmp_path):
    (report,) = read_pair_reports([write(tmp_path / "a.json", ["none", "crd"])])
    one = report.compared[0].difference
    by_probe = contrasts(PAIRS, decisions("crd")[:80], decisions("none")[:80])["all"]
    assert one.mean == pytest.approx(by_probe.difference)
    np.testing.assert_allclose([one.low, one.high], [by_probe.low, by_probe.high], atol=0.02)
    assert one.p < 0.01


def test_the_noise_of_several_pretraining_seeds_is_in_the_interval(tmp_path):
    labels = ["none-1", "none-2", "crd-1", "crd-2"]
    (report,) = read_pair_reports([write(tmp_path / "a.json", labels)])
    one = report.compared[0]
    assert one.difference.runs == (2, 2)
    gains = [decisions(f"crd-{n}")[:80].mean() - decisions(f"none-{n}")[:80].mean() for n in (1, 2)]
    assert one.difference.mean == pytest.approx(np.mean(gains))
    half = (one.difference.high - one.difference.low) / 2
    assert half > 6 * abs(gains[0] - gains[1])  # Student's t of one degree of freedom


def test_accuracies_and_differences_stand_on_the_page(tmp_path, capsys):
    path = write(tmp_path / "a.json", KINDS)
    accuracies, differences = pair_sections(read_pair_reports([path]))
    share = f"{100 * decisions('crd')[:80].mean():.1f}"
    row = next(row for row in accuracies.grid if row[0] == "BLiMP: over pairs")
    assert row[2] == share
    assert len(differences.grid) == 1 + 2 * 3
    run(ReportSettings(results=[path], out=tmp_path / "report", holm_student=["crd"]))
    assert "Holm's correction is over 4 comparisons" in capsys.readouterr().out
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| crd | twin | " in text
    assert "BLiMP: accuracy" in text
    assert f",BLiMP,crd,binding,{float(decisions('crd')[:80].mean())}" in (
        tmp_path / "report" / "report.csv"
    ).read_text()  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-5], "no file that `speechkd probe blimp --out` wrote"),
        (lambda text: text.replace('"decisions"', '"other"'), "no decisions on pairs"),
        (
            lambda text: text.replace('"over_pairs": 0', '"over_pairs": 1'),
            "do not give its accuracy",
        ),
        (lambda text: text.replace('"weights_sha256"', '"sha"'), "encoder has other fields"),
        (lambda _: "[]", "no decisions on pairs"),
        (lambda text: share("fields", "binding", text), "of none do not give its share of field b"),
        (lambda text: share("fields", "other", text), "do not give its share of field other"),
        (lambda text: share("paradigms", "q", text), "do not give its share of paradigm q"),
        (lambda text: changed(text, field_of={"p": "binding"}), "'q'"),
        (
            lambda text: changed(text, field_of={"p": "binding", "q": "ellipsis"}),
            "do not give its share of field binding",
        ),
        (
            lambda text: re.sub('"over_pairs": [0-9.]+', '"over_pairs": NaN', text),
            "do not give its accuracy",
        ),
        (lambda text: changed(text, decisions={}), "an encoder decided nothing"),
        (lambda text: changed(text, decisions={"none": {}}), "there are no pairs"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, told):
    path = write(tmp_path / "a.json", ["none"])
    path.write_text(change(path.read_text()))
    with pytest.raises(Damaged, match=told):
        read_pair_reports([path])


def test_a_file_that_does_not_tell_the_fields_is_read_and_that_is_said(tmp_path):
    """As `probe blimp` wrote them before; its paradigms are computed again all the same."""
    path = write(tmp_path / "a.json", ["none"])
    assert not any("as a file states" in line for line in told(path))
    record = json.loads(path.read_text())
    del record["field_of"]
    path.write_text(json.dumps(record))
    assert any(line.startswith("Shares per field of BLiMP are as") for line in told(path))
    path.write_text(share("paradigms", "q", path.read_text()))
    with pytest.raises(Damaged, match="share of paradigm q"):
        read_pair_reports([path])


def told(path):
    return pair_sections(read_pair_reports([path]))[0].text


def test_files_whose_pairs_have_another_order_are_not_compared(tmp_path):
    files = [write(tmp_path / f"{label}.json", [label]) for label in ("none", "crd")]
    record = json.loads(files[1].read_text())
    record["decisions"]["crd"] = dict(reversed(record["decisions"]["crd"].items()))
    files[1].write_text(json.dumps(record))
    with pytest.raises(Damaged, match=r"crd.json.*pairs of BLiMP in another order"):
        read_pair_reports(files)


def test_one_label_for_two_encoders_is_refused(tmp_path):
    files = [write(tmp_path / f"{n}.json", ["none"]) for n in "ab"]
    files[1].write_text(
        files[1].read_text().replace('"weights_sha256": "none"', '"weights_sha256": "x"')
    )
    with pytest.raises(SpeechkdError, match="none stands for different weights"):
        read_pair_reports(files)
