"""What a run's folder refuses before anything in it is changed."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.training.run_folder import RunFolder

DISTILLED = {"kd": ["none"], "batch": 32, "epochs": 2.0}
MASKED = {"method": "masked-audio", "batch": 64, "stack": 8}


@pytest.mark.parametrize("resume", ["auto", "never", "always"])
@pytest.mark.parametrize(
    ("there", "now", "words"),
    [
        (DISTILLED, MASKED, "a run of distill, and this is one of masked-audio"),
        (MASKED, DISTILLED, "a run of masked-audio, and this is one of distill"),
        (MASKED, MASKED | {"method": "splat"}, "a run of masked-audio, and this is one of splat"),
    ],
)
def test_a_run_of_another_method_is_told_by_its_method_and_never_replaced(
    tmp_path, there, now, words, resume
):
    with RunFolder(tmp_path, "speech") as folder:
        folder.write_record({"identity": there, "status": "finished"})
    with RunFolder(tmp_path, "student") as folder, pytest.raises(SpeechkdError) as refusal:
        folder.prepare(now, resume)
    assert words in str(refusal.value)
    assert "there 32" not in str(refusal.value)


def test_other_settings_of_the_same_method_are_told_one_by_one(tmp_path):
    with RunFolder(tmp_path, "speech") as folder:
        folder.write_record({"identity": MASKED, "status": "running"})
    with (
        RunFolder(tmp_path, "speech") as folder,
        pytest.raises(SpeechkdError, match=r"other settings \(stack: there 8, now 4\)"),
    ):
        folder.prepare(MASKED | {"stack": 4}, "auto")
    with RunFolder(tmp_path, "speech") as folder:
        assert folder.prepare(MASKED | {"stack": 4}, "never") is None
