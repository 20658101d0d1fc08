"""Word times that the teacher tells, against CTranslate2's `align`, Hugging Face and eSpeak NG."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from pipeline.extraction.offline import OFFLINE, OFFLINE_MODELS
from pipeline.extraction.teacher import load_teacher
from pipeline.extraction.word_times import LAG_MS, aligner_or_why_not, load_aligner, onsets
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.tasks.planted.speech import Synthesizer
from tests.helpers.whispers import (
    batch_of,
    needs_tiny_en,
    save_random_whisper,
    small_tokenizer,
    speechlike,
)

CPU = torch.device("cpu")
TEXTS = [
    "my brother, who lives next door, brought the picture back home.",
    "the train was late",
    "Stop!",
]


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("w") / "random"
    model = save_random_whisper(folder, layers=1, heads=2, vocab_size=400)
    small_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(
        json.dumps({"alignment_heads": [[0, 0], [0, 1]]})
    )
    return folder, model


def aligner_of(folder):
    return load_aligner(str(folder), "en", 32, CPU, "float32")


def test_a_clips_words_do_not_depend_on_the_others(random_whisper, monkeypatch):
    aligner = aligner_of(random_whisper[0])
    hidden_BTE = torch.randn(3, 100, 32, generator=torch.Generator().manual_seed(0))
    transcripts = [aligner.read(text) for text in TEXTS]
    lengths_B = torch.tensor([32_000, 12_345, 5])
    waves_BS = torch.zeros(3, 32_000)
    together = aligner.align(hidden_BTE, transcripts, waves_BS, lengths_B)
    for i in range(3):
        one = aligner.align(
            hidden_BTE[i : i + 1], transcripts[i : i + 1], waves_BS[:1], lengths_B[i : i + 1]
        )
        assert one == [together[i]]
    monkeypatch.setattr("pipeline.extraction.word_times.MOST_SCORES", 1)  # each clip by itself
    assert aligner.align(hidden_BTE, transcripts, waves_BS, lengths_B) == together


def test_words_lie_in_order_inside_the_audio(random_whisper):
    aligner = aligner_of(random_whisper[0])
    hidden_BTE = torch.randn(1, 100, 32, generator=torch.Generator().manual_seed(1))
    (words,) = aligner.align(
        hidden_BTE, [aligner.read(TEXTS[0])], torch.zeros(1, 31_000), torch.tensor([31_000])
    )
    assert [word.text for word in words] == TEXTS[0].split()
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] <= 31_000 / 16_000


def test_token_times_equal_hugging_faces(random_whisper):
    """`_extract_token_timestamps` on the same attention; it leaves out the prompt's last row."""
    folder, model = random_whisper
    aligner = aligner_of(folder)
    transcript = aligner.read(TEXTS[0])
    hidden_BTE = torch.randn(1, 60, 32, generator=torch.Generator().manual_seed(2))
    tokens_BL = torch.tensor([transcript.tokens])
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        told = model.decoder(tokens_BL, encoder_hidden_states=hidden_BTE, output_attentions=True)
    attention = [layer[:, :, transcript.prompt - 1 : -1] for layer in told.cross_attentions]
    outputs = transformers.utils.ModelOutput(
        cross_attentions=[attention], sequences=torch.zeros(1, attention[0].shape[2] + 1)
    )
    generation = transformers.WhisperForConditionalGeneration
    theirs = generation._extract_token_timestamps(
        SimpleNamespace(config=model.config), outputs, [[0, 0], [0, 1]], num_input_ids=0
    )[0]
    from pipeline.extraction.alignment import attention_to_costs, cheapest_path

    rows = torch.tensor([attention[0].shape[2]])
    scores = aligner.decoder(tokens_BL, hidden_BTE)[:, :, transcript.prompt - 1 : -1]
    costs = attention_to_costs(scores, rows, torch.tensor([60]))
    path = cheapest_path(costs, rows, torch.tensor([60]))
    assert torch.allclose(path.first_BN[0] * 0.02, theirs[:-1], atol=1e-6)


def test_an_encoder_of_another_width(random_whisper):
    with pytest.raises(Damaged, match="its decoder is 32 wide, its encoder 384"):
        load_aligner(str(random_whisper[0]), "en", 384, CPU, "float32")


@pytest.fixture(scope="module")
def synthesizer():
    try:
        return Synthesizer()
    except SpeechkdError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def spoken(synthesizer):
    return [synthesizer.speak_words(text) for text in TEXTS[:2]]


@pytest.fixture(scope="module")
def heard(spoken):
    """What tiny.en makes of the sentences: its aligner, log-mel, states, waves and lengths."""
    teacher = load_teacher(OFFLINE)
    waves_BS, lengths_B = batch_of([wave for wave, _ in spoken])
    mel_BMF = teacher.log_mel(waves_BS)
    aligner = aligner_or_why_not(OFFLINE, "en", None, teacher)
    return aligner, mel_BMF, teacher.encoder(mel_BMF), waves_BS, lengths_B


@needs_tiny_en
def test_the_path_equals_ctranslate2s(heard):
    ctranslate2 = pytest.importorskip("ctranslate2")
    aligner, mel_BMF, hidden_BTE, _, lengths_B = heard
    model = ctranslate2.models.Whisper(
        str(OFFLINE_MODELS[OFFLINE].folder), device="cpu", compute_type="float32"
    )
    transcripts = [aligner.read(text) for text in TEXTS[:2]]
    positions_B = (lengths_B + 319) // 320
    path = aligner._path(hidden_BTE, transcripts, positions_B)
    for row, transcript in enumerate(transcripts):
        (theirs,) = model.align(
            ctranslate2.StorageView.from_array(mel_BMF[row : row + 1].numpy()),
            [transcript.tokens[0]],
            [transcript.tokens[2:-1]],
            2 * int(positions_B[row]),
        )
        pairs = np.array(theirs.alignments)
        tokens = range(len(transcript.tokens) - 2)
        first = [pairs[pairs[:, 0] == token, 1].min() for token in tokens]
        assert path.first_BN[row, : len(first)].tolist() == first


@needs_tiny_en
def test_words_start_when_espeak_says_them(heard, spoken):
    aligner, _, hidden_BTE, waves_BS, lengths_B = heard
    assert aligner.lag_ms == 100
    transcripts = [aligner.read(text) for text in TEXTS[:2]]
    told = aligner.align(hidden_BTE, transcripts, waves_BS, lengths_B)
    for words, (_, events), text in zip(told, spoken, TEXTS, strict=False):
        assert [word.text for word in words] == text.split()
        errors = [abs(w.start_s - e.start_s) for w, e in zip(words, events, strict=True)]
        assert np.median(errors) < 0.06
        assert max(errors) < 0.2


def test_a_long_wave_of_one_word_is_no_trouble(random_whisper):
    teacher = load_teacher(str(random_whisper[0]))
    aligner = aligner_of(random_whisper[0])
    waves_BS, lengths_B = batch_of([speechlike(1, 0), speechlike(240_000, 1)])
    hidden_BTE = teacher.encoder(teacher.log_mel(waves_BS))
    short, long = aligner.align(hidden_BTE, [aligner.read("yes")] * 2, waves_BS, lengths_B)
    assert len(short) == len(long) == 1
    assert not short[0].trusted or short[0].start_s < short[0].end_s <= 1 / 16_000


def test_the_first_word_begins_where_the_clip_is_first_loud(random_whisper):
    aligner = aligner_of(random_whisper[0])
    wave_S = np.concatenate([np.full(4_000, 1e-4), np.full(12_000, 0.1)]).astype(np.float32)
    waves_BS, lengths_B = batch_of([wave_S])
    assert onsets(waves_BS).tolist() == [4_000 // 320]
    hidden_BTE = torch.randn(1, 50, 32, generator=torch.Generator().manual_seed(4))
    (words,) = aligner.align(hidden_BTE, [aligner.read("so it is")], waves_BS, lengths_B)
    assert words[0].start_s == 0.24
    assert all(word.start_s >= 0.24 for word in words)
    assert onsets(torch.zeros(2, 700)).tolist() == [0, 0]


def test_a_teacher_whose_lag_nobody_has_measured_says_so(random_whisper, capsys, monkeypatch):
    folder = random_whisper[0]
    assert load_aligner(str(folder), "en", 32, CPU, "float32").lag_ms == 0
    assert "nobody has measured how late its own word times come" in capsys.readouterr().err
    assert load_aligner(str(folder), "en", 32, CPU, "float32", lag_ms=-20).lag_ms == -20
    monkeypatch.setitem(LAG_MS, (32, ((0, 0), (0, 1))), 60)
    assert load_aligner(str(folder), "en", 32, CPU, "float32").lag_ms == 60
    assert capsys.readouterr().err == ""


def test_a_lag_is_taken_off_the_boundaries_between_words(random_whisper):
    folder, _ = random_whisper
    late = load_aligner(str(folder), "en", 32, CPU, "float32", lag_ms=40)
    hidden_BTE = torch.randn(1, 50, 32, generator=torch.Generator().manual_seed(5))
    more = (torch.zeros(1, 16_000), torch.tensor([16_000]))
    ((*first, last),) = aligner_of(folder).align(hidden_BTE, [late.read(TEXTS[1])], *more)
    ((*shifted, end),) = late.align(hidden_BTE, [late.read(TEXTS[1])], *more)
    for word, other in zip(first, shifted, strict=True):
        assert other.start_s == pytest.approx(max(word.start_s - 0.04, 0))
        assert other.end_s == pytest.approx(max(word.end_s - 0.04, 0))
    assert end.end_s == last.end_s


@pytest.mark.slow
@needs_tiny_en
def test_half_of_the_word_starts_are_within_60_ms_of_espeaks_and_nine_in_ten_within_200(
    synthesizer,
):
    from bench.word_times import accuracy, sentences

    teacher = load_teacher(OFFLINE, pooling="length")
    aligner = aligner_or_why_not(OFFLINE, "en", None, teacher)
    for silence_s in (0.0, 1.2):
        told = accuracy(teacher, aligner, sentences(17, seed=5, silence_s=silence_s))
        assert told.words > 150
        assert told.median_ms <= 60
        assert told.within_200_ms >= 0.9
        assert told.untrusted < 0.1
