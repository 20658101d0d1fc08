"""`speechkd extract-heard` and `distill --level token`: from a CTAL model to a text student."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.verification import Damage, verify
from pipeline.corpus.ctal_model import load_ctal
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import load_pretrained
from pipeline.models.lengths import Lengths
from pipeline.reports.partners import groups_of, partners_of
from stages.distill import DistillSettings
from stages.distill import run as distill
from stages.extract_heard import HeardSettings, run
from stages.pretrain_ctal import CtalSettings
from stages.pretrain_ctal import run as pretrain
from tests.helpers.caches import make_sequence_cache


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A cache and a model trained on it for a step or two."""
    folder = tmp_path_factory.mktemp("heard")
    make_sequence_cache(
        folder / "mels",
        [12, 9],
        "ctal-mel",
        width=4,
        most_rows=60,
        hop_samples=200,
        only=list(range(1, 12)),
    )
    pretrain(
        CtalSettings(
            cache=str(folder / "mels"), out=folder / "ctal", layers=2, width=16, heads=2,
            vocab_size=300, epochs=2.0, batch=8, held_out=0.0, device="cpu", learning_rate=1e-2,
        )
    )  # fmt: skip
    return folder


@pytest.fixture
def heard(work, tmp_path):
    def make(**changes):
        settings = HeardSettings(
            **{
                "cache": str(work / "mels"), "model": work / "ctal", "out": str(tmp_path / "heard"),
                "dtype": "float32", "device": "cpu", "batch_size": 5, **changes,
            }
        )  # fmt: skip
        run(settings)
        return SequenceReader(TeacherCache.open(settings.out, kinds=("text",)))

    return make


def by_hand(work, key: str, beside: str) -> np.ndarray:
    """What the model hears at the tokens of one clip's text, beside the audio of a clip."""
    model = load_ctal(work / "ctal" / "model")
    reader = SequenceReader(TeacherCache.open(str(work / "mels"), kinds=("ctal-mel",)))
    place = {name: i for i, name in enumerate(reader.clips.key)}
    ids = model.tokenizer(reader.clips.text[place[key]], return_tensors="pt")["input_ids"]
    text = AutoModel.from_pretrained(work / "ctal/model/text", add_pooling_layer=False)
    clip = place[beside]
    rows = reader.values([clip]).float()
    with torch.no_grad():
        states = text(input_ids=ids).last_hidden_state[0]
        values, audio = model.features.packed(rows, torch.tensor([len(rows)]))
        model.audio.eval()
        of_text = Lengths.of(torch.tensor([len(states)]))
        return model.audio.heard_by_token(values, audio, states, of_text, 0).numpy()


def test_a_tokens_vector_is_what_is_heard_less_what_another_clips_audio_gives(work, heard):
    reader = heard()
    keys = reader.clips.key
    for place in (0, 7, len(keys) - 1):
        got = reader.values([place]).numpy()
        own = by_hand(work, keys[place], keys[place])
        assert got.shape == own.shape
        matches = [
            other
            for other in keys
            if np.allclose(got, own - by_hand(work, keys[place], other), atol=1e-4)
        ]
        assert len(matches) == 1
        assert matches[0] != keys[place]


def test_with_nothing_taken_away_it_is_what_is_heard(work, heard):
    reader = heard(less="none")
    key = reader.clips.key[3]
    np.testing.assert_allclose(reader.values([3]).numpy(), by_hand(work, key, key), atol=1e-5)


def test_under_the_control_no_text_stands_beside_its_own_audio(work, heard):
    reader = heard(less="none", control="shuffled-audio")
    key = reader.clips.key[3]
    got = reader.values([3]).numpy()
    others = [
        other
        for other in reader.clips.key
        if np.allclose(got, by_hand(work, key, other), atol=1e-4)
    ]
    assert len(others) == 1
    assert others != [key]


def test_the_cache_is_sound_and_done_once(heard, tmp_path):
    reader = heard()
    assert [d for d in verify(reader.cache, tars=False) if isinstance(d, Damage)] == []
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "heard").rglob("*") if p.is_file()}
    heard()
    assert {
        p: p.stat().st_mtime_ns for p in (tmp_path / "heard").rglob("*") if p.is_file()
    } == before


def distilled(work, folder, cache, **changes):
    settings = {
        "cache": cache, "out": folder, "kd": ["crd"], "level": "token", "temperature": 0.1,
        "student": "bert-tiny", "tokenizer": str(work / "ctal/model/text"), "epochs": 3.0,
        "batch": 6, "device": "cpu", "held_out": 0.2, "log_every": 1, "measure_every": 1,
        "checkpoint_minutes": 0.0,
    }  # fmt: skip
    distill(DistillSettings(**{**settings, **changes}))
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("control", ["real", "shuffled"])
def test_each_token_of_a_student_is_taught_its_vector(work, heard, tmp_path, control):
    words = heard().cache.location
    lines = distilled(work, tmp_path / control, words, control=control)
    assert "loss/word_crd" in lines[0]
    record = json.loads((tmp_path / control / "run.json").read_text())
    assert record["data"]["words"]["taught"] == record["data"]["words"]["words"] > 50
    student = AutoModel.from_pretrained(tmp_path / control / "student", add_pooling_layer=False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / control / "student")
    assert student(**tokenizer("the cat", return_tensors="pt")).last_hidden_state.shape[-1] == 128


@pytest.mark.parametrize("beside", [False, True], ids=["of its own texts", "beside a cache"])
def test_what_was_heard_under_the_control_teaches_the_control(work, heard, tmp_path, beside):
    """Students of both differ by it alone, as under the control of `distill` itself."""
    texts = heard(out=str(tmp_path / "texts")).cache.location
    students = []
    for control in ("real", "shuffled-audio"):
        words = heard(out=str(tmp_path / control), control=control).cache.location
        of = {"cache": texts, "words": words} if beside else {"cache": words}
        distilled(work, tmp_path / f"run-{control}", **of)
        students.append(load_pretrained(str(tmp_path / f"run-{control}"))[0])
    real, other = students
    assert (real.control, other.control) == ("real", "shuffled-audio")
    assert (real.setup, real.teaching) == (other.setup, other.teaching)
    groups = groups_of({one.label: one for one in students})
    assert [one.name for one in partners_of(groups[0], groups).controls] == [other.label]


def test_a_student_of_another_tokenizer_is_refused(work, heard, tmp_path):
    words = heard().cache.location
    with pytest.raises(SpeechkdError, match="are not those of the student's tokenizer"):
        distilled(work, tmp_path / "run", words, tokenizer=None, vocab_size=200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"layer": 2}, "has 2 layers"), ({"model": "nowhere"}, "has no text")],
)
def test_what_cannot_be_heard_is_refused(heard, changes, message, tmp_path):
    if "model" in changes:
        changes = {"model": tmp_path / "nowhere"}
    with pytest.raises(SpeechkdError, match=message):
        heard(**changes)
