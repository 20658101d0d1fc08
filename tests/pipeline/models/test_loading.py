from unittest.mock import MagicMock

import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import AutoConfig, AutoModel

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import load_model

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
