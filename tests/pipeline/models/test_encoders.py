"""What is known about an encoder: its label, its run's objective, the digest of its weights."""

import json

import pytest
import torch

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import load_pretrained
from tests.helpers.encoders import save_encoder

TEXTS = ["one two three", "four five six"]


def test_a_plain_folder_is_an_encoder_without_objective(tmp_path):
    folder = save_encoder(tmp_path / "mine", TEXTS)
    described, encoder, tokenizer = load_pretrained(str(folder))
    assert (described.label, described.objective, described.control) == ("mine", None, None)
    assert described.parameters == sum(p.numel() for p in encoder.parameters())
    assert tokenizer("one")["input_ids"][0] == tokenizer.cls_token_id


def test_the_digest_is_of_the_weights_alone(tmp_path):
    """The pooler that Hugging Face draws at random on loading must not change it."""
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_encoder(tmp_path / name, TEXTS, seed=seed)
        torch.manual_seed(len(digests))
        digests.append(load_pretrained(f"x={tmp_path / name}")[0].weights_sha256)
    assert digests[0] == digests[1] != digests[2]


def test_a_label_can_be_given(tmp_path):
    folder = save_encoder(tmp_path / "mine", TEXTS)
    assert load_pretrained(f"BERT={folder}")[0].label == "BERT"


def test_a_run_tells_its_objective(tmp_path):
    save_encoder(tmp_path / "run" / "student", TEXTS)
    settings = {"kd": "crd", "control": "shuffled", "seed": 7}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"settings": settings}))
    described = load_pretrained(str(tmp_path / "run"))[0]
    assert described.label == "run"
    assert described.objective == "crd"
    assert described.control == "shuffled"
    assert described.pretraining_seed == 7


def test_a_run_without_its_student_is_not_ready(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(SpeechkdError, match="without student/"):
        load_pretrained(str(tmp_path))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(SpeechkdError, match="there is no such folder"):
        load_pretrained(str(tmp_path / "nothing"))
    with pytest.raises(SpeechkdError, match=r"config\.json"):
        load_pretrained(str(tmp_path))
