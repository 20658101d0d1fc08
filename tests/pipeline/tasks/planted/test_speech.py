"""Synthetic speech: the same samples for the same arguments, and voices that differ."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.planted import speech as speech_synthesis
from pipeline.tasks.planted.speech import VOICES, Accent, Synthesizer

TEXT = "The early train was full of people this morning."


@pytest.fixture(scope="module")
def synthesizer():
    try:
        return Synthesizer()
    except SpeechkdError as error:
        pytest.skip(str(error))


def pitch_hz(wave):
    return float(np.median(librosa.yin(wave, fmin=60, fmax=400, sr=16_000)))


def spectrum_db(wave):
    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=wave, sr=16_000, n_mels=40))
    return mel.mean(axis=1) - mel.mean()


def test_speaks_16_khz_mono(synthesizer):
    wave = synthesizer.speak(TEXT)
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert 1.5 < len(wave) / 16_000 < 4
    assert 0.1 < np.abs(wave).max() < 1.1
    assert synthesizer.speak(TEXT + " " + TEXT).shape[0] > 1.8 * len(wave)


@pytest.mark.parametrize("voice", ["en-us", VOICES[6], "en-us+klatt4", "en-us+whisper"])
def test_equal_arguments_give_equal_samples_whatever_came_before(synthesizer, voice):
    first = synthesizer.speak(TEXT, voice=voice)
    for other in ("en-us+f3", "en-us+croak", "fr"):
        synthesizer.speak("Something else!", voice=other, pitch=90, range=99, rate_wpm=300)
        assert np.array_equal(synthesizer.speak(TEXT, voice=voice), first)


def test_another_process_gives_the_same_samples(synthesizer):
    code = (
        "import hashlib; from pipeline.tasks.planted.speech import Synthesizer; "
        f"print(hashlib.sha256(Synthesizer().speak({TEXT!r})).hexdigest())"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    ours = hashlib.sha256(synthesizer.speak(TEXT)).hexdigest()
    assert done.stdout.strip() == ours


def test_parameters_do_what_they_say(synthesizer):
    plain = synthesizer.speak(TEXT)
    assert pitch_hz(synthesizer.speak(TEXT, pitch=90)) > 1.3 * pitch_hz(plain)
    assert len(synthesizer.speak(TEXT, rate_wpm=300)) < 0.75 * len(plain)
    quiet = synthesizer.speak(TEXT, volume=50)
    assert 0.3 < np.sqrt((quiet**2).mean() / (plain**2).mean()) < 0.7
    tracks = [
        librosa.yin(synthesizer.speak(TEXT, range=r, pitch=60), fmin=60, fmax=400, sr=16_000)
        for r in (0, 99)
    ]
    monotone, lively = (np.subtract(*np.percentile(track, [75, 25])) for track in tracks)
    assert lively > 2 * monotone


def test_voices_differ_clearly(synthesizer):
    spoken = {voice: synthesizer.speak(TEXT, voice=voice) for voice in VOICES}
    for one, other in itertools.combinations(VOICES, 2):
        ratio = pitch_hz(spoken[one]) / pitch_hz(spoken[other])
        distance_db = np.sqrt(np.mean((spectrum_db(spoken[one]) - spectrum_db(spoken[other])) ** 2))
        assert distance_db > 5 or not 0.8 < ratio < 1.25, (one, other, distance_db, ratio)
    assert len(VOICES) >= 8


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"voice": "xx-nothing"}, "no voice 'xx-nothing'; take one of en-us"),
        (TEXT, {"voice": "en-us+nothing"}, r"no voice 'en-us\+nothing'"),
        (TEXT, {"voice": "en-us+../../lang/aav/vi"}, "no voice"),
        (TEXT, {"pitch": 100}, "pitch is 100; eSpeak NG takes 0 to 99"),
        (TEXT, {"rate_wpm": 10}, "rate_wpm is 10"),
        (TEXT, {"volume": -1}, "volume is -1"),
        ("", {}, "gives no sound"),
        ("...", {}, "gives no sound"),
        ("a\0b", {}, "has a NUL"),
    ],
)
def test_what_cannot_be_spoken(synthesizer, text, options, message):
    with pytest.raises(SpeechkdError, match=message):
        synthesizer.speak(text, **options)
    assert len(synthesizer.speak("fine")) > 1_000  # and the next one works


def test_data_at_a_path_longer_than_the_library_takes(synthesizer, tmp_path, monkeypatch):
    library, data = speech_synthesis._find()
    if data is None:
        pytest.skip("the system's library finds its own data")
    deep = tmp_path / ("d" * 100) / ("e" * 100) / "espeak-ng-data"
    deep.parent.mkdir(parents=True)
    deep.symlink_to(data)
    monkeypatch.setattr(speech_synthesis, "_find", lambda: (library, deep))
    assert np.array_equal(Synthesizer().speak(TEXT), synthesizer.speak(TEXT))


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    with pytest.raises(SpeechkdError, match="pip install espeakng-loader"):
        Synthesizer()


def test_words_begin_where_the_voice_does(synthesizer):
    text = "my brother was late, every man ran, again we waited"
    wave, words = synthesizer.speak_words(text)
    assert np.array_equal(wave, synthesizer.speak(text))
    assert [text[word.place :][: word.length] for word in words] == text.replace(",", "").split()
    starts = [word.start_s for word in words]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < starts[-1] < len(wave) / 16_000
    loudness = librosa.feature.rms(y=wave, frame_length=320, hop_length=80)[0]
    for place in (4, 7):  # after a comma there is a pause, whose end can be seen
        around = loudness[int(starts[place] * 200) - 8 : int(starts[place] * 200) + 12]
        assert around[:4].max() < 0.05 * loudness.max() < around[-4:].max()


def test_an_accent_changes_its_word_alone_and_words_keep_their_places(synthesizer):
    text = "we found the brelvock near this bridge"
    accent = Accent(text.index("brelvock"), pitch=95, range=20, rate_wpm=120, volume=180)
    plain, words = synthesizer.speak_words(text)
    accented, others = synthesizer.speak_words(text, accents=[accent])
    assert [(w.place, w.length) for w in others] == [(w.place, w.length) for w in words]
    assert [text[w.place : w.place + w.length] for w in others] == text.split()
    ends = [[*(w.start_s for w in ws[1:]), len(x) / 16_000] for ws, x in
            ((words, plain), (others, accented))]  # fmt: skip
    before, after = (
        [x[int(w.start_s * 16_000) : int(e * 16_000)] for w, e in zip(ws, es, strict=True)]
        for ws, es, x in ((words, ends[0], plain), (others, ends[1], accented))
    )
    assert len(after[3]) > 1.2 * len(before[3]), "slower"
    assert pitch_hz(after[3]) > 1.2 * pitch_hz(before[3])
    assert np.array_equal(after[0], before[0])
    for place in (1, 5, 6):
        assert abs(len(after[place]) - len(before[place])) < 0.02 * 16_000


@pytest.mark.parametrize(("wrong", "told"), [({"pitch": 100}, "0 to 99"), ({"volume": -1}, "200")])
def test_an_accent_out_of_bounds_is_refused(synthesizer, wrong, told):
    values = {"pitch": 50, "range": 50, "rate_wpm": 170, "volume": 100, **wrong}
    with pytest.raises(SpeechkdError, match=told):
        synthesizer.speak_words("we found it", accents=[Accent(3, **values)])
