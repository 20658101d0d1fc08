"""Models, tokenizers, checkpoints and run folders from strangers."""

import json
import os
import pickle
import shutil

import pytest
import torch

from pipeline.extraction.teacher import load_teacher
from pipeline.finetuning.inputs import tokenize
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import load_pretrained
from pipeline.models.student import load_encoder, load_student
from pipeline.training.checkpoint import Checkpoints, Progress
from tests.helpers.encoders import save_encoder
from tests.helpers.whispers import save_random_whisper

RUNS = "import pathlib; pathlib.Path('ran').touch()\nclass Evil: pass\n"


class Canary:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("models") / "model", ["some words to read"])


@pytest.fixture
def model(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(saved, tmp_path / "model")


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_remote_code_is_not_run(model, tmp_path):
    (model / "evil.py").write_text(RUNS)
    auto = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil"] * 2}
    change(model / "config.json", auto_map=auto)
    change(model / "tokenizer_config.json", auto_map=auto, tokenizer_class="Evil")
    for load in (load_encoder, load_student, load_pretrained):
        try:
            load(str(model))
        except SpeechkdError:
            continue
    change(model / "config.json", model_type="evil")
    with pytest.raises(SpeechkdError, match="custom code"):
        load_encoder(str(model))
    assert not (tmp_path / "ran").exists()


CONFIGS = {
    "attention from the hub": {"attn_implementation": "kernels-community/flash-attn"},
    "the same, inside": {"text_config": {"_attn_implementation": "someone/kernel:evil"}},
    "a width of 2^40": {"hidden_size": 2**40},
    "a vocabulary of 2^33": {"vocab_size": 2**33},
    "20,000 layers": {"num_hidden_layers": 20_000},
    "20 layers of which 2 have weights": {"num_hidden_layers": 20},
    "a negative width": {"hidden_size": -1},
    "text for a width": {"hidden_size": "wide"},
    "no heads": {"num_attention_heads": 0},
    "7 heads of 32": {"num_attention_heads": 7},
    "an activation of another module": {"hidden_act": "os.system"},
    "one position": {"max_position_embeddings": 1},
    "padding beyond the vocabulary": {"pad_token_id": 10**6},
    "no model type": {"model_type": None},
    "a list for a model type": {"model_type": ["bert"]},
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_that_does_not_fit_is_refused(model, changes):
    change(model / "config.json", **changes)
    with pytest.raises(SpeechkdError):
        load_encoder(str(model))


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "", "{", '{"a": ' + "1" * 5000 + "}"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_broken_json_is_told(model, name, content):
    (model / name).write_text(content)
    with pytest.raises(SpeechkdError):
        load_encoder(str(model))


def test_weights_in_a_pickle_are_not_read(model, tmp_path):
    (model / "model.safetensors").unlink()
    torch.save({"a": Canary()}, model / "pytorch_model.bin")
    with pytest.raises(SpeechkdError, match="safetensors"):
        load_encoder(str(model))
    (model / "model.safetensors").write_bytes(pickle.dumps(Canary()))
    with pytest.raises(SpeechkdError):
        load_encoder(str(model))
    assert not (tmp_path / "ran").exists()


TOKENIZERS = {
    "a text 10^40 times longer": {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10},
            ]
            * 40,
        }
    },
    "a letter for each gap": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 100}
    },
    "an expression that takes for ever": {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "(a+)+$"},
            "behavior": "Isolated",
            "invert": False,
        }
    },
    "an expression that is none": {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "(("}, "content": ""}
    },
    "tokens beyond the model's": {
        "added_tokens": [
            {
                **dict.fromkeys(
                    ("single_word", "lstrip", "rstrip", "normalized", "special"), False
                ),
                "id": 999_999,
                "content": "beyond",
            }
        ]
    },
    "a part of an unknown kind": {"model": {"type": "Evil"}},
}


@pytest.mark.parametrize("changes", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_that_is_a_bomb_is_refused(model, changes):
    change(model / "tokenizer.json", **changes)
    with pytest.raises(SpeechkdError):
        tokenize(load_encoder(str(model))[1], ["a" * 3000 + "b"], 64)


TEACHERS = {
    "2^40 dimensions": {"d_model": 2**40},
    "10^9 layers": {"encoder_layers": 10**9},
    "heads that do not divide": {"encoder_attention_heads": 7},
    "true for a number": {"d_model": True},
    "an activation": {"activation_function": "os.system"},
}


@pytest.mark.parametrize("changes", TEACHERS.values(), ids=TEACHERS)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path, changes):
    save_random_whisper(tmp_path / "t")
    change(tmp_path / "t" / "config.json", **changes)
    with pytest.raises(SpeechkdError):
        load_teacher(str(tmp_path / "t"))


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../../etc/passwd"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": ["x"]}},
        {"weight_map": "x"},
        {},
    ],
    ids=str,
)
def test_an_index_of_weights_stays_in_its_folder(tmp_path, index):
    save_random_whisper(tmp_path / "t")
    (tmp_path / "t" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SpeechkdError):
        load_teacher(str(tmp_path / "t"))


def forged(kind):
    return {
        "a pickle": pickle.dumps(Canary()),
        "PyTorch's pickle": None,
        "garbage": b"garbage",
        "nothing": b"",
        "an empty zip": b"PK\x05\x06" + b"\0" * 18,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["a pickle", "PyTorch's pickle", "garbage", "nothing", "an empty zip"]
)
@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "progress.json"])
def test_a_forged_checkpoint_is_refused(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    path = checkpoints.save(module, optimizer, Progress(step=1))
    content = forged(kind)
    if content is None:
        torch.save(Canary(), path / name)
    else:
        (path / name).write_bytes(content)
    with pytest.raises(SpeechkdError, match="cannot be loaded") as told:
        checkpoints.load(path, module, optimizer)
    assert "weights_only" not in str(told.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", '{"settings": 1}', "\xff"])
def test_a_run_folder_with_another_record_is_told(model, tmp_path, content):
    run = tmp_path / "run"
    run.mkdir()
    model.rename(run / "student")
    (run / "run.json").write_text(content, encoding="latin1")
    with pytest.raises(SpeechkdError, match=r"run\.json"):
        load_pretrained(str(run))
