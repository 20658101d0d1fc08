"""What the loop of stage one asks of its device; whole runs are tested through the stage."""

import threading
from types import SimpleNamespace

import pytest
import torch

from pipeline.extraction import loop
from pipeline.extraction.batches import ShardEnd, WaveBatch, Work
from pipeline.extraction.features import CtalFrames, WhisperMel
from pipeline.extraction.teacher import DummyTeacher, load_teacher
from pipeline.extraction.text_batches import TextBatch
from pipeline.extraction.text_rows import TextStates
from pipeline.extraction.text_teacher import load_text_teacher
from pipeline.extraction.wave_teacher import load_wave_teacher
from pipeline.extraction.whisper_rows import MeanVectors, States
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.encoders import save_encoder
from tests.helpers.wave_encoders import save_wave_encoder
from tests.helpers.whispers import batch_of, save_random_whisper, speechlike

META = torch.device("meta")
WAVES = [speechlike(samples, seed) for seed, samples in enumerate([32_000, 8_000, 240_000])]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "whisper"
    save_random_whisper(folder, layers=2, heads=1)
    return str(folder)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("pooling", ["fixed750", "length"])
def test_a_batch_never_waits_for_its_device(whisper, pooling, precision):
    """torch's device `meta` has no values, so whatever would wait for one raises an error."""
    teacher = load_teacher(whisper, device=META, pooling=pooling, precision=precision)
    batch = WaveBatch(0, [0, 1, 2], *batch_of(WAVES))
    for encoder in (
        MeanVectors(teacher, pooling, 30),
        States(teacher),
        States(teacher, 7),
        WhisperMel(80, META),
    ):
        rows_NE = loop._Encoding(encoder, torch.float16)(batch).rows.rows_NE
        assert rows_NE.device == META
    with pytest.raises(RuntimeError, match="meta"):
        rows_NE.sum().item()  # what this test would catch


def test_neither_other_encoders_nor_frames_wait_for_their_device(tmp_path):
    # of clips of one length: otherwise the library itself looks at its mask, once per pass
    batch = WaveBatch(0, [0, 1], *batch_of([wave[:8_000] for wave in WAVES[:2]]))
    encoders = [CtalFrames(META)]
    for norm in ("group", "layer"):
        folder = tmp_path / norm
        save_wave_encoder(folder, "wav2vec2", norm, norm == "layer")
        teacher = load_wave_teacher(str(folder), folder, device=META)
        encoders += [MeanVectors(teacher, "length", 0), States(teacher, 3)]
    for encoder in encoders:
        assert loop._Encoding(encoder, torch.float16)(batch).rows.rows_NE.device == META


def test_text_states_do_not_wait_for_their_device(tmp_path):
    folder = save_encoder(tmp_path / "bert", ["the cat sat", "a dog"])
    teacher = load_text_teacher(str(folder), device=META, max_tokens=16)
    batch = TextBatch(0, [0, 1], ["the cat sat", "sat the cat"], 3.0)
    rows = loop._Encoding(TextStates(teacher, ""), torch.float16)(batch).rows
    assert rows.rows_NE.device == META
    assert sum(rows.counts) == len(rows.rows_NE) == len(rows.ids_N)


def test_float32_is_ieee_in_the_teacher_alone(whisper, monkeypatch):
    seen = []

    def look(*_, **__):
        seen.append(torch.backends.cudnn.conv.fp32_precision)
        raise ZeroDivisionError

    teacher = load_teacher(whisper)
    monkeypatch.setattr(teacher.encoder.conv1, "forward", look)
    with pytest.raises(ZeroDivisionError):
        teacher.encode(*batch_of(WAVES))
    assert seen == ["ieee"]
    assert torch.backends.cudnn.conv.fp32_precision != "ieee"


def test_every_thread_has_the_teachers_device_as_its_own(monkeypatch):
    """Each thread begins with the first GPU as its current one, and would open a context there."""
    current = []

    def note(device):
        current.append((threading.current_thread().name, device))

    def load(*_, **__):
        assert current == [("MainThread", torch.device("cpu"))]  # the pinning thread takes it over
        yield WaveBatch(0, [0], torch.zeros(1, 16_000), torch.tensor([16_000]))
        yield ShardEnd(0)

    monkeypatch.setattr(loop, "make_current", note)
    monkeypatch.setattr(loop, "load", load)
    monkeypatch.setattr(loop, "_finish", lambda *_: "written")
    cache = SimpleNamespace(
        manifest=SimpleNamespace(shards=[SimpleNamespace(samples=1)]),
        identity=SimpleNamespace(width=384, is_sequence=False),
    )
    work = Work(0, cache.manifest.shards[0], "a.tar")
    encoder = MeanVectors(DummyTeacher(torch.device("cpu")), "fixed750", 30)
    events = list(loop.extract([work], encoder, cache, {}, batch_size=1, workers=0))
    assert events[-1] == "written"
    assert [name for name, _ in current] == ["MainThread", "writer_0"]


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("out of resource: shared memory, Required: 262144", False),
    ],
)
def test_a_smaller_batch_is_advised_only_where_memory_ran_out(message, advice):
    def fail(*_):
        raise RuntimeError(message)

    encoder = SimpleNamespace(rows_of=fail, device=torch.device("cpu"), beside_reading=False)
    batch = WaveBatch(0, [0], torch.zeros(1, 16_000), torch.tensor([16_000]))
    with pytest.raises(SpeechkdError if advice else RuntimeError) as raised:
        loop._Encoding(encoder, torch.float32)(batch)
    assert ("Lower --batch-size" in str(raised.value)) == advice
