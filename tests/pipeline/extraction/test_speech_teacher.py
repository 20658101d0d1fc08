"""Which encoder a teacher's name leads to, and what is said where it leads to none."""

import json

import pytest
import transformers

from pipeline.extraction.speech_teacher import load_speech_teacher
from pipeline.extraction.teacher import Teacher
from pipeline.extraction.wave_teacher import WaveTeacher
from pipeline.foundation.errors import SpeechkdError, Unreachable
from tests.helpers.wave_encoders import save_wave_encoder
from tests.helpers.whispers import save_random_whisper


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper") / "w"
    save_random_whisper(folder)
    return str(folder)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hubert") / "h"
    save_wave_encoder(folder, "hubert")
    return str(folder)


def test_the_model_type_decides(whisper, hubert):
    assert isinstance(load_speech_teacher(whisper), Teacher)
    teacher = load_speech_teacher(hubert, pooling="length", layer=1)
    assert isinstance(teacher, WaveTeacher)
    assert (teacher.id, teacher.layer, teacher.layers) == ("h", 1, 3)
    assert (teacher.hop_samples, teacher.centre_samples, teacher.context_seconds) == (320, 200, 0)


def test_a_layer_of_whisper_is_counted_as_the_library_does(whisper):
    assert load_speech_teacher(whisper).layer == load_speech_teacher(whisper, layer=2).layer == 2
    assert load_speech_teacher(whisper, layer=0).layer == 0
    with pytest.raises(SpeechkdError, match=r"--layer 3: .* has 2 layers"):
        load_speech_teacher(whisper, layer=3)


def test_what_is_of_whisper_alone_is_refused_for_others(hubert):
    with pytest.raises(SpeechkdError, match=r"is a hubert, .* Use --pooling length"):
        load_speech_teacher(hubert)
    with pytest.raises(SpeechkdError, match="--context 15s changes nothing"):
        load_speech_teacher(hubert, pooling="length", context="15s")


def test_another_kind_of_model_is_refused_and_the_known_ones_are_told(tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(SpeechkdError, match=r"'bert'; known are whisper, hubert.*wavlm"):
        load_speech_teacher(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(SpeechkdError, match="model_type is 'None'"):
        load_speech_teacher(str(tmp_path))


def test_the_hub_out_of_reach_is_said(monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(Unreachable, match="cannot be fetched from Hugging Face"):
        load_speech_teacher("facebook/wav2vec2-base-960h")
