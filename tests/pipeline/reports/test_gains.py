"""What a report concludes from gains: no more than intervals and controls show."""

from pipeline.reports.comparison import Difference
from pipeline.reports.gains import Gain, Gains
from tests.helpers.finished import checkpoint

ENCODERS = {
    "none": checkpoint("none", "none"),
    "crd": checkpoint("crd", "crd", "real"),
    "mixed": checkpoint("mixed", "crd", "shuffled"),
    "nst": checkpoint("nst", "nst", "real"),
    "MiniLM": checkpoint("MiniLM"),
}


def gain(measure, label, low, high, against="none", seeds=5, percent=True, groups=100):
    one = Difference((low + high) / 2, low, high, seeds, groups)
    return Gain(measure, label, against, one, percent=percent)


def gains(over_baseline, over_control=(), encoders=ENCODERS):
    return Gains("none", tuple(over_baseline), tuple(over_control), encoders)


def test_a_gain_inside_the_noise_is_called_that():
    assert gain("a", "crd", -0.01, 0.05).verdict == "noise"
    assert gain("a", "crd", 0.01, 0.05).verdict == "better"
    assert gain("a", "crd", -0.05, -0.01).verdict == "worse"
    assert Gain("a", "crd", "none", None, percent=True).cells() == ["–", "–", "0", "–"]
    assert gain("a", "crd", 0.01, 0.03).cells() == ["+2.00", "+1.00 to +3.00", "5", "better"]
    mae = gain("MAE", "crd", 0.001, 0.003, percent=False)
    assert mae.cells()[:2] == ["+0.0020", "+0.0010 to +0.0030"]


def test_a_gain_that_its_control_shares_is_not_the_teachers():
    both = [gain("a", "crd", 0.01, 0.02), gain("b", "crd", 0.01, 0.02), gain("a", "mixed", 0, 1)]
    over = [gain("a", "crd", 0.001, 0.01, "mixed"), gain("b", "crd", -0.01, 0.01, "mixed")]
    told = gains(both, over).sentences()
    assert told[0].startswith(
        "crd compared with none (5 seeds): better beyond the noise in a and b."
    )
    assert "Compared with mixed, there is no gain beyond the noise in b" in told[0]
    assert "so the gain there is not shown to come from the teacher" in told[0]
    assert (
        "noise, too."
        in gains(both, [*over[:1], gain("b", "crd", 0.001, 0.01, "mixed")]).sentences()[0]
    )


def test_a_gain_whose_control_is_missing_is_not_the_teachers():
    told = gains(
        [gain("a", "crd", 0.01, 0.02), gain("b", "crd", 0.01, 0.02)],
        [gain("a", "crd", 0.001, 0.01, "mixed")],
    ).sentences()
    assert "Compared with mixed, there is no gain beyond the noise in b" in told[0]
    (alone,) = gains([gain("a", "nst", 0.01, 0.02)]).sentences()
    assert "It has no control" in alone


def test_no_gain_is_said_to_be_none():
    told = gains([gain("a", "crd", -0.01, 0.02), gain("b", "crd", -0.02, -0.01)]).sentences()[0]
    assert "worse beyond the noise in b" in told
    assert "no difference beyond the noise in a. No gain is shown." in told


def test_few_seeds_and_missing_controls_are_said():
    one = gains([gain("a", "crd", 0.01, 0.02, seeds=1), gain("b", "crd", 0.01, 0.02, seeds=3)])
    assert "may be the luck of one run" in one.caution()
    assert "(1 to 3 seeds)" in one.sentences()[0]
    assert "intervals: 2." in one.caution()
    assert "too narrow" in gains([gain("a", "crd", 0.01, 0.02, seeds=3)]).caution()
    assert "no control" not in one.caution()
    alone = {k: v for k, v in ENCODERS.items() if k != "mixed"}
    assert "There is no control" in gains([gain("a", "crd", 0, 1)], (), alone).caution()


def test_one_seed_is_never_beyond_the_noise_of_fine_tuning():
    one = gains([gain("a", "crd", 0.01, 0.02, seeds=1), gain("b", "crd", -0.01, 0.02, seeds=1)])
    assert (
        "better beyond the noise of the test clips (of fine-tuning: unknown) in a"
        in one.sentences()[0]
    )
    assert [row[-1] for row in one.grid()] == ["verdict", "better, one seed", "noise"]


def test_students_are_those_that_were_taught():
    assert gains([]).students() == ["crd", "mixed", "nst"]


def test_few_groups_of_test_clips_are_said():
    few = gains([gain("a", "crd", 0.01, 0.05, groups=19), gain("b", "crd", 0.01, 0.05)])
    assert "of 19 groups only, which makes the intervals too narrow" in few.caution()
    assert "groups only" not in gains([gain("a", "crd", 0.01, 0.05, groups=20)]).caution()
