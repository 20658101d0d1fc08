"""Frames of every clip by command: those of the usual library, exactly once."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch
import transformers

from pipeline.cache.identity import KINDS
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.extraction.prosody import prosody
from pipeline.extraction.settings import FeatureSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.manifest import write_manifest
from stages.extract_features import run
from tests.helpers.tars import encoded, line, tar_bytes, write_corpus
from tests.helpers.whispers import speechlike

COUNTS = [3, 1, 4, 2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), COUNTS)


def settings(manifest, cache, **changes) -> FeatureSettings:
    values = {"features": "whisper-mel", "batch_size": 2, "workers": 0, "devices": "cpu", **changes}
    return FeatureSettings(manifest=str(manifest), cache=str(cache), **values)


def extract(manifest, cache, **changes) -> TeacherCache:
    run(settings(manifest, cache, **changes))
    return TeacherCache.open(cache, kinds=KINDS)


def content(cache):
    return {str(p.relative_to(cache)): p.read_bytes() for p in cache.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mels", ["80", "128"])
def test_whisper_mel_is_that_of_hugging_face(corpus, tmp_path, mels):
    reader = SequenceReader(extract(corpus, tmp_path / "c", mels=mels))
    extractor = transformers.WhisperFeatureExtractor(feature_size=int(mels))
    assert len(reader.clips) == sum(COUNTS)
    for seed in range(len(reader.clips)):
        samples = 4_000 + 97 * (seed % 13)
        wave_S = speechlike(samples, seed)
        mel_MF = extractor(wave_S, sampling_rate=16_000, return_tensors="np")["input_features"][0]
        frames = -(-samples // 160)
        assert reader.clips.rows[seed] == frames
        # 16-bit FLAC is part of the difference: it stands out where the wave is quiet
        error_NE = np.abs(reader.values([seed]).numpy() - mel_MF[:, :frames].T)
        assert error_NE.mean() < 0.01
        assert error_NE.max() < 0.15


@pytest.mark.slow
def test_reading_in_processes_and_devices_change_nothing(corpus, tmp_path):
    extract(corpus, tmp_path / "a")
    extract(corpus, tmp_path / "b", workers=2)
    extract(corpus, tmp_path / "c", devices="cpu,cpu")
    for index in (1, 0):
        extract(corpus, tmp_path / "d", array_task=f"{index}/2")
    whole = content(tmp_path / "a")
    assert all(content(tmp_path / name) == whole for name in "bcd")


def test_the_number_of_threads_changes_nothing(corpus, tmp_path):
    """A reading process has one; where the main process does its work, it takes one too."""
    threads = torch.get_num_threads()
    seen = []
    for count in (1, 2):
        torch.set_num_threads(count)
        extract(corpus, tmp_path / str(count))
        assert torch.get_num_threads() == count
        seen.append(content(tmp_path / str(count)))
    torch.set_num_threads(threads)
    assert seen[0] == seen[1]


def test_other_settings_are_refused_by_name(corpus, tmp_path):
    extract(corpus, tmp_path / "c")
    with pytest.raises(SpeechkdError, match="width: cache 80, now 128"):
        extract(corpus, tmp_path / "c", mels="128")
    with pytest.raises(SpeechkdError, match="dtype: cache 'float16', now 'uint8'"):
        extract(corpus, tmp_path / "c", dtype="uint8")


def test_a_cache_of_another_kind_is_refused(corpus, tmp_path):
    from stages import extract_teacher
    from stages.extract_teacher import ExtractSettings

    extract(corpus, tmp_path / "c")
    vectors = ExtractSettings(manifest=str(corpus), cache=str(tmp_path / "c"), encoder="dummy")
    with pytest.raises(SpeechkdError, match="is a cache of kind whisper-mel, and this would make"):
        extract_teacher.run(vectors)
    with pytest.raises(SpeechkdError, match=r"one of kind vector\. .*`speechkd extract-teacher`"):
        TeacherCache.open(tmp_path / "c")


def test_a_dry_run_tells_the_bytes_and_writes_nothing(corpus, tmp_path, capsys):
    run(settings(corpus, tmp_path / "c", dry_run=True))
    told = capsys.readouterr().out
    assert "whisper-mel, 100 frames per second of 80 values" in told
    assert "26 rows of 80 × float16 per clip, judging by the first 3" in told
    assert not (tmp_path / "c").exists()
    extract(corpus, tmp_path / "c")
    stored = [f for f in (tmp_path / "c" / "rows" / "c").rglob("*") if f.is_file()]
    size = sum(f.stat().st_size for f in stored)  # objects are whole, though the rows are few
    assert f"to write    about {size / 1e6:,.1f} MB of whisper-mel" in told


def heard(seed: int) -> np.ndarray:
    """Clip number `seed` of the corpus as 16-bit FLAC gives it back."""
    return np.rint(speechlike(4_000 + 97 * (seed % 13), seed) * 32_768).astype(np.float32) / 32_768


def test_ctal_mel_is_that_of_librosa(corpus, tmp_path):
    reader = SequenceReader(extract(corpus, tmp_path / "c", features="ctal-mel"))
    assert reader.identity.rows_per_second == 80
    for seed in range(sum(COUNTS)):
        wave_S = heard(seed)
        power_MF = librosa.feature.melspectrogram(
            y=wave_S, sr=16_000, n_fft=2048, win_length=800, hop_length=200, n_mels=80
        )
        expected_FM = np.log(power_MF + 1e-6).T
        assert reader.clips.rows[seed] == len(expected_FM) == 1 + len(wave_S) // 200
        error_FM = np.abs(reader.values([seed]).numpy() - expected_FM)
        assert error_FM.max() < 8e-3  # float16's own step between 8 and 16 is 0.0078


def test_ctal_mel_by_bytes_errs_by_half_a_step(corpus, tmp_path):
    exact = SequenceReader(extract(corpus, tmp_path / "a", features="ctal-mel", dtype="float32"))
    rough = SequenceReader(extract(corpus, tmp_path / "b", features="ctal-mel", dtype="uint8"))
    every = range(sum(COUNTS))
    error_FM = (exact.values(every) - rough.values(every)).abs()
    assert 0 < float(error_FM.max()) < 0.51 * float(rough.clips.step.max()) < 0.05


def test_prosody_is_that_of_each_clip_alone(corpus, tmp_path):
    reader = SequenceReader(extract(corpus, tmp_path / "c", features="prosody", dtype="float32"))
    assert (reader.identity.width, reader.identity.rows_per_second) == (3, 100)
    for seed in range(sum(COUNTS)):
        expected_FC = prosody(heard(seed))
        assert reader.clips.rows[seed] == len(expected_FC)
        np.testing.assert_allclose(reader.values([seed]).numpy(), expected_FC, atol=1e-5)


def test_clips_of_thirty_seconds_have_all_their_frames(tmp_path):
    wave_S = speechlike(30 * 16_000)
    members = [("a.flac", encoded(wave_S)), ("a.txt", b"long")]
    content = tar_bytes(members)
    (tmp_path / "a.tar").write_bytes(content)
    write_manifest(tmp_path / "m.jsonl", [replace(line(content, 1), clip_seconds=30)])
    for features, frames in (("whisper-mel", 3_000), ("ctal-mel", 2_401)):
        cache = extract(tmp_path / "m.jsonl", tmp_path / features, features=features)
        assert cache.identity.clip_seconds == 30
        assert cache.identity.most_rows == cache.rows == frames
    write_manifest(tmp_path / "m.jsonl", [replace(line(content, 1), clip_seconds=60)])
    with pytest.raises(SpeechkdError, match="whisper-mel is of Whisper's window of 30 s"):
        extract(tmp_path / "m.jsonl", tmp_path / "c")
    assert extract(tmp_path / "m.jsonl", tmp_path / "d", features="ctal-mel").rows == 2_401


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "prosody", "dtype": "uint8"}, "--dtype uint8 is not for prosody"),
        ({"features": "prosody", "devices": "0"}, "prosody is computed on the CPU"),
        ({"features": "ctal-mel", "mels": "128"}, "--mels changes nothing with --features ctal"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(SpeechkdError, match=message):
        settings("m", "c", **changes)
