"""A saved student is an ordinary Hugging Face folder."""

import json
from copy import deepcopy

import pytest
from transformers import AutoModelForMaskedLM

from pipeline.models.student import Student, load_encoder
from tests.pipeline.models.test_packing import CONFIGS


def test_saved_model_names_nothing_of_this_project(tmp_path):
    student = Student(AutoModelForMaskedLM.from_config(deepcopy(CONFIGS["bert"])))
    student.model.save_pretrained(tmp_path)
    assert "speechkd" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_folder_without_a_model_is_named(tmp_path):
    from pipeline.foundation.errors import SpeechkdError

    with pytest.raises(SpeechkdError, match=r"no config\.json"):
        load_encoder(str(tmp_path))
