"""Speech encoders that read waves against the library's own output, one clip at a time."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipeline.extraction.wave_teacher import (
    BATCHED_MODELS,
    WAVE_MODELS,
    WaveTeacher,
    load_wave_teacher,
)
from pipeline.foundation.errors import NotThere, SpeechkdError
from tests.helpers.wave_encoders import save_wave_encoder as save
from tests.helpers.whispers import batch_of, speechlike

KINDS = [
    *((kind, "layer", True) for kind in WAVE_MODELS),
    *((kind, "group", False) for kind in BATCHED_MODELS),
]
LENGTHS = [9_000, 400, 5_000, 719, 720, 9_000]
WAVES = [0.05 + speechlike(samples, seed) for seed, samples in enumerate(LENGTHS)]


def reference(folder, model, wave) -> transformers.modeling_outputs.BaseModelOutput:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        return model(inputs["input_values"], output_hidden_states=True)


def load(folder, **options) -> WaveTeacher:
    return load_wave_teacher(str(folder), folder, **options)


def check(teacher, waves, expected) -> None:
    """States of a batch, and of each clip alone, are the expected ones."""
    states_BTE = teacher.grid(*batch_of(waves))
    for place, (wave, expected_TE) in enumerate(zip(waves, expected, strict=True)):
        count = teacher.positions_of(len(wave))
        assert count == len(expected_TE)
        torch.testing.assert_close(states_BTE[place, :count], expected_TE, rtol=1e-4, atol=1e-5)
        alone_1TE = teacher.grid(*batch_of([wave]))
        torch.testing.assert_close(alone_1TE[0, :count], expected_TE, rtol=1e-4, atol=1e-5)
    means_BE = teacher.encode(*batch_of(waves))
    expected_BE = torch.stack([states_TE.mean(dim=0) for states_TE in expected])
    torch.testing.assert_close(means_BE, expected_BE, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "norm", "stable"), KINDS)
def test_states_are_those_of_the_library_for_each_clip_alone(tmp_path, kind, norm, stable):
    model = save(tmp_path, kind, norm, stable)
    expected = [reference(tmp_path, model, wave).last_hidden_state[0] for wave in WAVES]
    teacher = load(tmp_path)
    assert (teacher.hop_samples, teacher.field_samples, teacher.d_model) == (320, 400, 32)
    check(teacher, WAVES, expected)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_waves_are_left_as_they_are_if_the_feature_extractor_says_so(tmp_path, norm):
    model = save(tmp_path, "wav2vec2", norm, norm == "layer", normalise=False)
    expected = [reference(tmp_path, model, wave).last_hidden_state[0] for wave in WAVES[:3]]
    check(load(tmp_path), WAVES[:3], expected)


@pytest.mark.parametrize(
    ("kind", "norm", "layer"),
    [
        ("wav2vec2", "group", 0),
        ("wav2vec2", "layer", 0),
        ("wav2vec2", "layer", 2),
        ("hubert", "group", 1),
        ("wavlm", "layer", 1),
        ("wavlm", "group", 2),
    ],
)
def test_an_earlier_layer_is_the_librarys_hidden_state(tmp_path, kind, norm, layer):
    model = save(tmp_path, kind, norm, norm == "layer")
    expected = [reference(tmp_path, model, wave).hidden_states[layer][0] for wave in WAVES[:3]]
    teacher = load(tmp_path, layer=layer)
    assert len(teacher.model.encoder.layers) == max(1, layer)
    check(teacher, WAVES[:3], expected)


def test_the_last_layer_by_its_number_is_the_last_hidden_state(tmp_path):
    save(tmp_path)
    batch = batch_of(WAVES[:2])
    last, by_number = load(tmp_path), load(tmp_path, layer=3)
    assert (last.layer, last.layers) == (by_number.layer, by_number.layers) == (3, 3)
    assert torch.equal(last.grid(*batch), by_number.grid(*batch))
    with pytest.raises(SpeechkdError, match=r"--layer 4: .* has 3 layers"):
        load(tmp_path, layer=4)


def test_other_strides_give_other_positions(tmp_path):
    changes = {"conv_kernel": (10, 4, 3), "conv_stride": (5, 2, 2), "conv_dim": (16,) * 3}
    model = save(tmp_path, num_feat_extract_layers=3, **changes)
    waves = [wave[:3_000] for wave in WAVES[:3]]
    expected = [reference(tmp_path, model, wave).last_hidden_state[0] for wave in waves]
    teacher = load(tmp_path)
    assert (teacher.hop_samples, teacher.field_samples) == (20, 45)
    check(teacher, waves, expected)


def test_a_clip_shorter_than_the_field_has_no_position_and_disturbs_no_other(tmp_path):
    for norm in ("group", "layer"):
        folder = tmp_path / norm
        model = save(folder, "wav2vec2", norm, norm == "layer")
        teacher = load(folder)
        assert [teacher.positions_of(n) for n in (1, 399, 400, 719, 720)] == [0, 0, 1, 1, 2]
        waves = [WAVES[0], WAVES[1][:399]]
        expected_TE = reference(folder, model, WAVES[0]).last_hidden_state[0]
        states_BTE = teacher.grid(*batch_of(waves))
        torch.testing.assert_close(states_BTE[0], expected_TE, rtol=1e-4, atol=1e-5)
        assert teacher.grid(*batch_of(waves[1:])).shape == (1, 1, 32)


def test_digital_silence_is_finite(tmp_path):
    save(tmp_path, "wav2vec2", "group", False)
    silent = [np.zeros(5_000, np.float32), WAVES[0]]
    assert load(tmp_path).grid(*batch_of(silent)).isfinite().all()


def test_half_precision_stays_near_float32(tmp_path):
    save(tmp_path)
    exact = load(tmp_path).encode(*batch_of(WAVES))
    half = load(tmp_path, precision="bfloat16").encode(*batch_of(WAVES))
    assert half.dtype == torch.float32
    assert 0 < float((half - exact).norm() / exact.norm()) < 0.05


def test_a_checkpoint_with_a_head_and_older_names_gives_the_same_encoder(tmp_path):
    """Published checkpoints name the parts of a weight norm otherwise than they are named now."""
    model = save(tmp_path)
    before = load(tmp_path).encode(*batch_of(WAVES[:2]))
    tensors = {}
    for name, value in load_file(tmp_path / "model.safetensors").items():
        for now, then in (("original0", "g"), ("original1", "v")):
            name = name.replace(f"parametrizations.weight.{now}", f"weight_{then}")
        tensors[f"wav2vec2.{name}"] = value
    assert any(name.endswith("weight_g") for name in tensors)
    tensors["lm_head.weight"] = torch.zeros(8, model.config.hidden_size)
    tensors["lm_head.bias"] = torch.zeros(8)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load(tmp_path).encode(*batch_of(WAVES[:2])), before)


def test_a_checkpoint_may_lack_what_only_training_reads(tmp_path):
    save(tmp_path)
    before = load(tmp_path).encode(*batch_of(WAVES[:2]))
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["masked_spec_embed"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load(tmp_path).encode(*batch_of(WAVES[:2])), before)
    del tensors["encoder.layers.1.attention.k_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpeechkdError, match=r"lack 1 .* encoder.layers.1.attention.k_proj"):
        load(tmp_path)


def test_a_checkpoint_in_half_precision_is_read_in_float32(tmp_path):
    save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    halves = {name: value.half() for name, value in tensors.items()}
    save_file(
        {name: value.float() for name, value in halves.items()}, tmp_path / "model.safetensors"
    )
    expected = load(tmp_path)
    save_file(halves, tmp_path / "model.safetensors", {"format": "pt"})
    teacher = load(tmp_path)
    assert teacher.sha256 == expected.sha256
    assert torch.equal(*(t.encode(*batch_of(WAVES[:2])) for t in (teacher, expected)))


def test_a_teacher_cannot_train(tmp_path):
    save(tmp_path)
    teacher = load(tmp_path)
    assert not any(module.training for module in teacher.model.modules())
    assert not any(p.requires_grad for p in teacher.model.parameters())


def test_what_cannot_be_used_is_said(tmp_path):
    save(tmp_path)
    config = tmp_path / "preprocessor_config.json"
    good = json.loads(config.read_text())
    for change, message in (
        ({"sampling_rate": 8_000}, "at 8000 Hz"),
        ({"feature_extractor_type": "SeamlessM4TFeatureExtractor"}, "reads SeamlessM4T"),
        ({"do_normalize": "yes"}, "do_normalize is 'yes'"),
    ):
        config.write_text(json.dumps({**good, **change}))
        with pytest.raises(SpeechkdError, match=message):
            load(tmp_path)
    config.write_text("[")
    with pytest.raises(SpeechkdError, match="cannot be read"):
        load(tmp_path)
    config.unlink()
    with pytest.raises(NotThere, match="says how the model's waves are normalised"):
        load(tmp_path)


def test_an_adapter_is_refused(tmp_path):
    save(tmp_path, add_adapter=True)
    with pytest.raises(SpeechkdError, match="adapter"):
        load(tmp_path)
