"""Teachers that cannot be had or read say so, and the conversion is checked."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.extraction.offline import OFFLINE
from pipeline.extraction.teacher import load_teacher
from pipeline.extraction.weights import (
    read_encoder,
    teacher_folder,
    tensors_sha256,
)
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.whispers import save_random_whisper


@pytest.fixture
def folder(tmp_path):
    save_random_whisper(tmp_path / "w", layers=1, heads=1)
    return tmp_path / "w"


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_only_the_encoder_is_read(folder):
    _, tensors = read_encoder(folder)
    assert "conv1.weight" in tensors
    assert not any("decoder" in name for name in tensors)


def test_sharded_weights_are_the_same_teacher(folder, tmp_path):
    whole = load_teacher(str(folder)).sha256
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, members in parts.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    weight_map = {name: file for file, members in parts.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    assert load_teacher(str(folder)).sha256 == whole


def test_an_index_may_not_point_elsewhere(folder):
    index = {"weight_map": {"x": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SpeechkdError, match="outside its folder"):
        load_teacher(str(folder))


def test_the_digest_is_of_values_not_of_files(folder, tmp_path):
    _, tensors = read_encoder(folder)
    exact = {name: value.half().float() for name, value in tensors.items()}
    half = {name: value.half() for name, value in tensors.items()}
    assert tensors_sha256(exact) == tensors_sha256(dict(reversed(half.items())))
    changed = {**exact, "conv1.bias": exact["conv1.bias"] + 1e-3}
    assert tensors_sha256(changed) != tensors_sha256(exact)
    renamed = {name.replace("conv1", "conv3"): value for name, value in exact.items()}
    assert tensors_sha256(renamed) != tensors_sha256(exact)


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(SpeechkdError, match=r"has no weights: no model\.safetensors"):
        load_teacher(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(SpeechkdError, match=r"pytorch_model\.bin, which may be a pickle"):
        load_teacher(str(folder))


def test_damaged_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(SpeechkdError, match="damaged or not whole"):
        load_teacher(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "wav2vec2"}, "model_type is 'wav2vec2'"),
        ({"d_model": 32}, "do not fit its config.json"),
        ({"encoder_layers": 2}, "do not fit its config.json"),
        ({"d_model": "wide"}, "d_model is 'wide'"),
        ({"scale_embedding": True}, "scale_embedding"),
        ({"activation_function": "relu"}, "activation_function"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(SpeechkdError, match=message):
        load_teacher(str(folder))


def test_weights_without_an_encoder(folder):
    save_file({"lm_head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(SpeechkdError, match="no Whisper encoder"):
        load_teacher(str(folder))


def test_too_few_positions(folder):
    edit_config(folder, max_source_positions=750)
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.embed_positions.weight"
    tensors[name] = tensors[name][:750].contiguous()
    save_file(tensors, folder / "model.safetensors")
    assert load_teacher(str(folder), context="15s").d_model == 16
    with pytest.raises(SpeechkdError, match="750 positions; 30s of context needs 1500"):
        load_teacher(str(folder))


@pytest.mark.parametrize("name", ["no/such/folder", "./missing", "whisper", "/no/where", "a b/c"])
def test_what_is_neither_folder_nor_id(name):
    with pytest.raises(SpeechkdError, match="no such folder"):
        teacher_folder(name)


def test_a_model_that_cannot_be_fetched(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(SpeechkdError) as failure:
        teacher_folder("openai/whisper-small.en")
    message = str(failure.value)
    assert "openai/whisper-small.en is not on this machine" in message
    assert "hf download" in message
    assert OFFLINE in message


def test_a_model_in_the_hub_cache_needs_no_network(monkeypatch, folder):
    import huggingface_hub

    def local(repository, *, local_files_only, revision, **options):
        assert (repository, revision) == ("some/whisper", "v2")
        assert local_files_only
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", local)
    assert teacher_folder("some/whisper@v2") == folder
