"""Loading a model fails at once and in words, and is silent otherwise."""

import io
import json
from logging import StreamHandler
from unittest.mock import MagicMock

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM
from transformers.utils import logging

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import load_model, load_tokenizer
from pipeline.models.student import load_encoder, load_student
from tests.helpers.encoders import save_encoder

ANSWER = MagicMock()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ConnectionError("no network"), r"hub cannot be reached \(no network\)"),
        (RepositoryNotFoundError("404", response=ANSWER), "hub has no such model"),
    ],
    ids=["offline", "no such model"],
)
def test_a_wrong_name_is_told_at_once_without_trying_to_load(monkeypatch, failure, told):
    def ask(*_, **__):
        raise failure

    def load(*_, **__):
        raise AssertionError("loading was tried")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", ask)
    monkeypatch.setattr(AutoConfig, "from_pretrained", load)
    with pytest.raises(SpeechkdError, match=told):
        load_model(AutoModel, "no-such/model")


def test_a_hub_that_only_hesitates_is_no_hindrance(monkeypatch):
    def ask(*_, **__):
        raise HfHubHTTPError("503", response=ANSWER)

    def load(*_, **__):
        raise OSError("what loading says")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", ask)
    monkeypatch.setattr(AutoConfig, "from_pretrained", load)
    with pytest.raises(SpeechkdError, match="what loading says"):
        load_model(AutoModel, "no-such/model")


def test_loading_and_saving_are_silent_and_leave_the_library_as_talkative_as_it_was(
    tmp_path, capfd
):
    folder = str(save_encoder(tmp_path / "encoder", ["one two three"]))
    notices = io.StringIO()
    handler = StreamHandler(notices)
    logging.add_handler(handler)
    logging.set_verbosity_info()
    capfd.readouterr()
    try:
        load_model(AutoModel, folder)  # leaves the head out, and has a pooler of its own
        load_tokenizer(folder)
        load_student(folder)[0].save(tmp_path / "again")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
        logging.remove_handler(handler)
    said = capfd.readouterr()
    assert (said.out, said.err, notices.getvalue()) == ("", "", "")


def test_a_head_that_is_drawn_anew_is_said(tmp_path, capfd):
    folder = save_encoder(tmp_path / "encoder", ["one two three"])
    load_student(str(folder))
    assert "drawn at random" not in capfd.readouterr().err
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    load_student(str(folder))
    said = capfd.readouterr().err
    assert f"{folder}: its weights have no MaskedLM head; a new one is drawn at random" in said
    load_encoder(str(folder))
    assert "drawn at random" not in capfd.readouterr().err, "nothing is drawn without a head"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("load", [load_encoder, lambda folder: load_student(folder, head=True)])
def test_weights_are_float32_whatever_the_file_has(tmp_path, dtype, load):
    folder = save_encoder(tmp_path / "encoder", ["one two three"])
    half = AutoModelForMaskedLM.from_pretrained(folder, dtype=dtype)
    half.save_pretrained(folder)
    model = load(str(folder))[0]
    model = getattr(model, "model", model)
    saved = half.state_dict()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {b.dtype for b in model.buffers() if b.is_floating_point()} <= {torch.float32}
    prefix = "" if "bert.embeddings.word_embeddings.weight" in model.state_dict() else "bert."
    for name, tensor in model.state_dict().items():
        assert tensor.equal(saved[prefix + name].float()), name


def test_weights_that_cannot_be_float32_are_refused(tmp_path):
    folder = save_encoder(tmp_path / "encoder", ["one two three"])
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpeechkdError, match="weights are quantised"):
        load_encoder(str(folder))
