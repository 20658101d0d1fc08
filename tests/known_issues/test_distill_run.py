"""Runs of `speechkd distill` that once ended in a traceback, or could not be carried on."""

import json

import pytest

from pipeline.foundation.errors import SpeechkdError
from stages.distill import DistillSettings, run
from tests.helpers.caches import make_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache") / "c", [24]).location


def settings(cache, out, **changes):
    values = {"kd": ["none"], "student": "bert-tiny", "epochs": 2.0, "batch": 8, "device": "cpu"}
    return DistillSettings(cache=cache, out=out, **{**values, **changes})


def test_a_run_that_diverged_leaves_no_student(cache, tmp_path):
    for _ in range(2):  # and says so again
        with pytest.raises(SpeechkdError, match="not finite"):
            run(settings(cache, tmp_path / "run", learning_rate=1e30))
        assert not (tmp_path / "run" / "student").exists()


def test_a_setting_that_became_free_does_not_bar_an_old_run(cache, tmp_path, capsys):
    run(settings(cache, tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["identity"]["keep"] = 99  # as a version might record it that still counted it
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    run(settings(cache, tmp_path / "run"))
    with pytest.raises(SpeechkdError, match="seed: there 0, now 1"):
        run(settings(cache, tmp_path / "run", seed=1))


def test_a_model_file_that_was_cut_off_is_named(cache, tmp_path):
    from pipeline.models.encoders import load_pretrained

    run(settings(cache, tmp_path / "run", max_steps=1))
    weights = tmp_path / "run" / "student" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])
    with pytest.raises(SpeechkdError, match="cannot be loaded"):
        load_pretrained(str(tmp_path / "run"))
