"""A saved student is an ordinary Hugging Face folder."""

import json
from copy import deepcopy

import pytest
import torch
from transformers import AutoModelForMaskedLM, RobertaConfig

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import Student, build_student, check_kind, load_encoder
from tests.helpers.encoders import save_encoder
from tests.pipeline.models.test_packing import CONFIGS, SMALL


def test_saved_model_names_nothing_of_this_project(tmp_path):
    student = Student(AutoModelForMaskedLM.from_config(deepcopy(CONFIGS["bert"])))
    student.model.save_pretrained(tmp_path)
    assert "speechkd" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(SpeechkdError, match=r"no config\.json"):
        load_encoder(str(tmp_path))


def test_a_fresh_student_is_float32_whatever_its_configuration_says(tmp_path):
    config = deepcopy(CONFIGS["bert"])
    config.dtype = torch.bfloat16
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    tokenizer = load_tokenizer(str(save_encoder(tmp_path / "encoder", ["one two three"])))
    student = build_student(str(tmp_path / "config.json"), tokenizer, 64)
    assert {p.dtype for p in student.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["gpt2", "xlnet", "vit"])
def test_a_configuration_that_is_no_masked_lm_is_refused(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(SpeechkdError, match=f"a {kind} is no masked LM"):
        check_kind(str(tmp_path / "config.json"))


def test_a_fresh_student_has_places_for_its_texts(tmp_path):
    tokenizer = load_tokenizer(str(save_encoder(tmp_path / "encoder", ["one two three"])))
    RobertaConfig(**SMALL, intermediate_size=64, max_position_embeddings=66).save_pretrained(
        tmp_path
    )
    student = build_student(str(tmp_path / "config.json"), tokenizer, 64)
    first = tokenizer.pad_token_id + 1
    student.check_fits(tokenizer, 66 - first)
    with pytest.raises(SpeechkdError, match=f"has positions for {66 - first} tokens"):
        student.check_fits(tokenizer, 67 - first)
