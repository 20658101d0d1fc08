"""The units of Whisper's front end, against Hugging Face's."""

import pytest
from transformers import WhisperConfig, WhisperFeatureExtractor

from pipeline.foundation import units


def test_constants_are_those_of_hugging_faces_front_end():
    extractor = WhisperFeatureExtractor()
    assert extractor.sampling_rate == units.SAMPLE_RATE_HZ
    assert extractor.n_fft == units.N_FFT
    assert extractor.hop_length == units.HOP_LENGTH
    assert extractor.n_samples == units.WINDOW_SAMPLES
    assert extractor.nb_max_frames == units.WINDOW_MEL_FRAMES
    assert WhisperConfig().max_source_positions == units.WINDOW_ENCODER_FRAMES
    assert units.CLIP_ENCODER_FRAMES == 750


def test_exact_division_refuses_a_remainder():
    assert units.exact_div(12, 4) == 3
    with pytest.raises(ValueError, match="13 is not a multiple of 4"):
        units.exact_div(13, 4)
