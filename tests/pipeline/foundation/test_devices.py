"""The one way from a word to a device."""

import pytest
import torch

from pipeline.foundation.devices import device_named, devices_named
from pipeline.foundation.errors import SpeechkdError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend a number of GPUs; the current one is kept in the list that is returned."""
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        return current

    return pretend


def test_auto_takes_a_gpu_where_there_is_one(gpus, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    gpus(0)
    assert device_named("auto") == device_named("cpu") == torch.device("cpu")
    current = gpus(2)
    assert device_named("cpu") == torch.device("cpu")
    assert current == []
    assert device_named("auto") == device_named("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_named("cuda") == torch.device("cuda", 1)
    assert current[-1] == torch.device("cuda", 1)


def test_a_gpu_that_is_not_there_is_refused(gpus):
    gpus(0)
    with pytest.raises(SpeechkdError, match="--device cuda: torch finds no CUDA device"):
        device_named("cuda")


@pytest.mark.parametrize(
    ("text", "count", "names"),
    [
        ("auto", 0, ["cpu"]),
        ("auto", 2, ["cuda:0"]),
        ("all", 0, ["cpu"]),
        ("all", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cpu", 2, ["cpu"]),
        ("1,0", 2, ["cuda:1", "cuda:0"]),
        ("cuda:1", 2, ["cuda:1"]),
    ],
)
def test_several_devices_by_their_words(gpus, text, count, names):
    gpus(count)
    assert devices_named(text) == [torch.device(name) for name in names]


@pytest.mark.parametrize("text", ["2", "cuda", "0,7", "tpu", ""])
def test_an_unknown_device_is_refused_by_name(gpus, text):
    gpus(2)
    with pytest.raises(SpeechkdError, match=f"--devices {text}: there is no device"):
        devices_named(text)
