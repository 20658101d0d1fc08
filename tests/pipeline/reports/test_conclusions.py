"""What a report concludes from gains: no more than intervals and controls show."""

from pipeline.reports.conclusions import caution, sentences
from tests.helpers.finished import checkpoint
from tests.pipeline.reports.test_gains import ENCODERS, gain, gains


def test_a_gain_that_its_control_shares_is_not_the_teachers():
    both = [gain("a", "crd", 0.01, 0.02), gain("b", "crd", 0.01, 0.02), gain("a", "mixed", 0, 1)]
    over = [gain("a", "crd", 0.001, 0.01, "mixed"), gain("b", "crd", -0.01, 0.01, "mixed")]
    told = sentences(gains(both, over))
    assert told[0].startswith(
        "crd compared with none (5 seeds): better beyond the noise in a and b."
    )
    assert "Compared with mixed, there is no gain beyond the noise in b" in told[0]
    assert "so the gain there is not shown to come from the teacher" in told[0]
    every = gains(both, [*over[:1], gain("b", "crd", 0.001, 0.01, "mixed")])
    assert "noise, too." in sentences(every)[0]


def test_a_gain_whose_control_is_missing_is_not_the_teachers():
    told = sentences(
        gains(
            [gain("a", "crd", 0.01, 0.02), gain("b", "crd", 0.01, 0.02)],
            [gain("a", "crd", 0.001, 0.01, "mixed")],
        )
    )
    assert "Compared with mixed, there is no gain beyond the noise in b" in told[0]
    alone = sentences(gains([gain("a", "nst", 0.01, 0.02)]))[0]
    assert "It has no control of its own here" in alone


def test_no_gain_is_said_to_be_none():
    told = sentences(gains([gain("a", "crd", -0.01, 0.02), gain("b", "crd", -0.02, -0.01)]))[0]
    assert "worse beyond the noise in b" in told
    assert "no difference beyond the noise in a. No gain is shown." in told


def test_encoders_without_a_partner_are_shown_and_not_compared():
    told = sentences(gains([gain("a", "crd", 0, 1)]))
    assert told[-1] == ("Shown and not compared, because no run of distillation made them: MiniLM.")
    big = {"big": checkpoint("big", "none", weights_sha256="9"), "MiniLM": ENCODERS["MiniLM"]}
    assert sentences(gains([], encoders=big))[-1].endswith("equal with a teacher: big.")
    alone = sentences(gains([], encoders={"crd": ENCODERS["crd"]}))
    assert alone == [
        "crd is shown and not compared with a student without a teacher: no encoder here was "
        "trained with --kd none."
    ]


def test_a_control_alone_is_still_a_comparison():
    encoders = {label: ENCODERS[label] for label in ("crd", "mixed")}
    told = sentences(gains([], [gain("a", "crd", 0.01, 0.02, "mixed")], encoders))
    assert "Compared with mixed: better beyond the noise in a." in told[0]


def test_few_seeds_and_missing_controls_are_said():
    one = gains([gain("a", "crd", 0.01, 0.02, seeds=1), gain("b", "crd", 0.01, 0.02, seeds=3)])
    assert "may be the luck of one run" in caution(one)
    assert "(1 to 3 seeds)" in sentences(one)[0]
    assert "intervals: 2." in caution(one)
    assert "too narrow" in caution(gains([gain("a", "crd", 0.01, 0.02, seeds=3)]))
    assert "no control" not in caution(one)
    alone = {k: v for k, v in ENCODERS.items() if k != "mixed"}
    assert "There is no control" in caution(gains([gain("a", "crd", 0, 1)], (), alone))
    assert caution(gains([])) == ""


def test_one_seed_is_never_beyond_the_noise_of_fine_tuning():
    one = gains([gain("a", "crd", 0.01, 0.02, seeds=1), gain("b", "crd", -0.01, 0.02, seeds=1)])
    assert (
        "better beyond the noise of the test clips (of fine-tuning: unknown) in a"
        in sentences(one)[0]
    )
    assert [row[-1] for row in one.grid()] == ["verdict", "better, one seed", "noise"]


def test_whether_the_noise_of_pretraining_is_in_the_intervals_is_said():
    once = gain("a", "crd", 0.01, 0.02)
    thrice = gain("b", "crd", 0.01, 0.02, runs=(3, 3), covers_pretraining=True)
    assert "Each encoder was pre-trained once, so they do not show" in caution(gains([once]))
    assert "The noise of pre-training is in them, by Student's t" in caution(gains([thrice]))
    assert "in the other 1 it is not" in caution(gains([once, thrice]))
    assert "(5 seeds; pre-trained 3 times)" in sentences(gains([thrice]))[0]
    unequal = gain("b", "crd", 0.01, 0.02, runs=(1, 3), covers_pretraining=True)
    assert "(5 seeds; pre-trained 1 and 3 times)" in sentences(gains([unequal]))[0]


def test_comparisons_by_size_alone_are_said():
    assert "only the size is known" in caution(gains([gain("a", "crd", 0, 1)]))


def test_few_groups_of_test_clips_are_said():
    few = gains([gain("a", "crd", 0.01, 0.05, groups=19), gain("b", "crd", 0.01, 0.05)])
    assert "of 19 groups only, which makes the intervals too narrow" in caution(few)
    assert "groups only" not in caution(gains([gain("a", "crd", 0.01, 0.05, groups=20)]))
