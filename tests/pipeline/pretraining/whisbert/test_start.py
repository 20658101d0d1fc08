"""What an audio encoder begins with, against Hugging Face's Whisper and against earlier runs."""

import json

import pytest
import torch

from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.models.lengths import Lengths
from pipeline.pretraining.whisbert.saved import load
from stages.pretrain_whisbert import run
from tests.helpers.whisbert import mel_cache, settings_of
from tests.helpers.whispers import save_random_whisper

SIZES = {"width": 32, "heads": 2, "audio_layers": 2, "losses": ["mlm", "mam"], "max_steps": 1}
STILL = {**SIZES, "learning_rate": 0.0}
"""A step that changes no weight, so that the saved ones are those of the beginning."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("start")


@pytest.fixture(scope="module")
def cache(folder):
    mel_cache(folder / "mel")
    return folder / "mel"


@pytest.fixture(scope="module")
def whisper(folder):
    return save_random_whisper(folder / "whisper", layers=3, heads=2, feed_forward=128)


@pytest.fixture(scope="module")
def fresh(cache, folder):
    run(settings_of(cache, folder / "fresh", **{**STILL, "max_steps": 0, "epochs": 0.2}))
    return folder / "fresh"


def begun(cache, out, start, **changes):
    given = {**STILL, "max_steps": 0, "epochs": 0.2, "init_audio": str(start), **changes}
    run(settings_of(cache, out, **given))
    return load(out / "whisbert")[0]


@pytest.mark.parametrize("layers", [2, 3])
def test_the_layers_of_a_whisper_are_those_of_hugging_faces(
    cache, folder, whisper, fresh, tmp_path, layers, capsys
):
    model = begun(cache, tmp_path / "x", folder / "whisper", audio_layers=layers)
    states = torch.randn(7, 32)
    with torch.no_grad():
        wanted = states[None]
        for layer in whisper.encoder.layers[:layers]:
            wanted = layer(wanted, None)
            wanted = wanted[0] if isinstance(wanted, tuple) else wanted
        # a norm that was behind three layers is not taken behind two
        norm = whisper.encoder.layer_norm if layers == 3 else torch.nn.LayerNorm(32)
        got = model.speech.layers(states, Lengths.of(torch.tensor([7])))
    torch.testing.assert_close(got, norm(wanted[0]), rtol=1e-4, atol=1e-4)
    other = load(fresh / "whisbert")[0].state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith("speech.layers"):  # text, stem, CLS and heads begin as without it
            assert torch.equal(value, other[name]) or layers == 3, name
    told = capsys.readouterr().err
    assert f"the first {layers} of 3 layers of a Whisper encoder" in told
    assert "not BabyLM" in told


def test_a_runs_audio_encoder_is_taken_whole(cache, folder, fresh, tmp_path, capsys):
    model = begun(cache, tmp_path / "x", fresh, losses=["mlm", "mmm"], seed=3)
    mine, other = (m.speech.state_dict() for m in (model, load(fresh / "whisbert")[0]))
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert "the audio encoder of a run" in capsys.readouterr().err


def test_another_beginning_is_another_run_and_another_teaching(cache, folder, fresh, tmp_path):
    out = tmp_path / "x"
    begun(cache, out, folder / "whisper")
    record = json.loads((out / "run.json").read_text())
    digest = record["identity"]["init_audio_sha256"]
    assert record["comparable"]["teaching"]["audio begins with"] == digest
    plain = json.loads((fresh / "run.json").read_text())
    assert "init_audio_sha256" not in plain["identity"]
    assert record["comparable"]["setup"] == plain["comparable"]["setup"]
    save_random_whisper(tmp_path / "whisper", seed=1, layers=3, heads=2, feed_forward=128)
    with pytest.raises(SpeechkdError, match="init_audio"):
        begun(cache, out, tmp_path / "whisper")


def test_a_twin_begins_without_audio_and_stays_a_twin(cache, folder, whisper, tmp_path, capsys):
    begun(cache, tmp_path / "mm", folder / "whisper")
    begun(cache, tmp_path / "twin", folder / "nowhere", losses=["mlm"], twin=tmp_path / "mm")
    assert "without effect" in capsys.readouterr().err  # so that nothing is loaded for it
    record = json.loads((tmp_path / "twin" / "run.json").read_text())
    assert record["twin_of"]["losses"] == "mlm,mam"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"width": 16}, "width: 32 there, 16 here"),
        ({"heads": 4}, "heads: 2 there, 4 here"),
        ({"audio_layers": 4}, "layers: 3 there, 4 here"),
    ],
)
def test_a_whisper_of_other_sizes_is_refused(cache, folder, whisper, tmp_path, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        begun(cache, tmp_path / "x", folder / "whisper", **changes)
    assert not (tmp_path / "x").exists()


def test_other_runs_and_frames_are_refused(cache, folder, fresh, tmp_path):
    with pytest.raises(SpeechkdError, match="layers: 2 there, 1 here"):
        begun(cache, tmp_path / "x", fresh, audio_layers=1)
    mel_cache(tmp_path / "wide", width=8)
    with pytest.raises(SpeechkdError, match="width is 8 there and 6 here"):
        begun(tmp_path / "wide", tmp_path / "x", fresh)
    with pytest.raises(NotThere, match="there is no such folder"):
        begun(cache, tmp_path / "x", tmp_path / "nowhere")
