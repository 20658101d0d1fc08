"""Clips through WhisBERT's audio encoder as a classifier's examples, and by `finetune audio`."""

import json

import pytest
import torch

from pipeline.finetuning.audio_inputs import AudioClips
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.models.whisbert.loading import load_hearing
from pipeline.pretraining.whisbert.saved import load
from stages import finetune_audio, pretrain_whisbert
from tests.helpers.whisbert import mel_cache, settings_of
from tests.stages.test_finetune_audio import results, settings, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("patches")


@pytest.fixture(scope="module")
def clips(folder):
    mel_cache(folder / "mel", most_rows=120)
    return AudioClips.open(str(folder / "mel"))


@pytest.fixture(scope="module")
def trained(folder, clips):
    out = folder / "run"
    pretrain_whisbert.run(settings_of(folder / "mel", out, losses=["mlm", "mam"], epochs=1.0))
    return out


def vectors(clips, source, pooling="auto", places=(3, 0, 7)):
    loaded = clips.load(clips.reader.clips.key, pooling, source)
    with torch.no_grad():
        return loaded, loaded.inputs().vectors(loaded.encoder.eval(), places, pooling)


def test_a_clips_vector_is_the_state_of_its_cls_alone(clips, trained):
    loaded, got = vectors(clips, str(trained))
    assert loaded.checkpoint.objective == "mlm with mam"
    model, _ = load(trained / "whisbert")
    for place, vector in zip((3, 0, 7), got, strict=True):
        audio = loaded.inputs().clips([place])
        with torch.no_grad():
            states = model.speech(model.speech.patches(audio.frames), audio.places)
        assert torch.allclose(vector, states[0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_other_poolings_leave_the_cls_out(clips, trained, pooling):
    loaded, got = vectors(clips, str(trained), pooling, places=(4,))
    audio = loaded.inputs().clips([4])
    speech = loaded.encoder.speech
    with torch.no_grad():
        states = speech(speech.patches(audio.frames), audio.places)
    assert torch.allclose(got[0], states[1:].mean(0), atol=1e-5)  # attention begins as the mean


def test_batches_hold_all_clips_once(clips, trained):
    loaded, _ = vectors(clips, str(trained))
    inputs = loaded.inputs()
    places = list(range(20))
    assert sorted(i for batch in inputs.batches(places) for i in batch) == places
    assert inputs.size([0, 1]) == inputs.size([0]) + inputs.size([1])
    rows = clips.reader.clips.rows
    assert inputs.size([2]) == -(-int(rows[2]) // 10)


def test_fresh_weights_have_the_sizes_of_a_run(clips, trained):
    _, own = vectors(clips, str(trained))
    loaded, fresh = vectors(clips, f"Fresh=fresh:{trained}")
    assert loaded.checkpoint.label == "Fresh"
    assert loaded.checkpoint.objective is None
    assert not torch.allclose(own, fresh, atol=1e-2)
    assert torch.equal(fresh, vectors(clips, f"fresh:{trained}")[1])


def test_finetune_audio_takes_a_run(clips, trained, tmp_path):
    table = write_table(tmp_path / "labels.csv", clips)
    given = settings(
        table, clips, trained, tmp_path / "out", seeds="0", epochs=15, learning_rate=3e-3,
        checkpoint=[f"Whis={trained}", f"Fresh=fresh:{trained}"],
    )  # fmt: skip
    finetune_audio.run(given)
    cells = results(given.out)
    assert {cell["checkpoint"]["label"] for cell in cells} == {"Whis", "Fresh"}
    for cell in cells:
        assert cell["epochs"][-1]["train_loss"] < cell["epochs"][0]["train_loss"]


def test_a_cache_of_other_frames_is_refused_with_both_values(trained, tmp_path):
    mel_cache(tmp_path / "other", width=8)
    other = AudioClips.open(str(tmp_path / "other"))
    with pytest.raises(SpeechkdError, match="width is 8 there and 6 here"):
        other.load(other.reader.clips.key, "auto", str(trained))


def test_a_twin_hears_nothing_and_that_is_told(clips, folder):
    out = folder / "twin"
    pretrain_whisbert.run(settings_of(folder / "mel", out, losses=["mlm"], epochs=1.0))
    with pytest.raises(NotThere, match="holds no audio encoder"):
        clips.load(clips.reader.clips.key, "auto", str(out))


def test_damaged_files_are_told(trained, tmp_path):
    for name in ("model.safetensors", "whisbert.json"):
        (tmp_path / name).write_bytes((trained / "whisbert" / name).read_bytes())
    config = json.loads((tmp_path / "whisbert.json").read_text())
    config["shape"]["audio"]["width"] = 32
    (tmp_path / "whisbert.json").write_text(json.dumps(config))
    with pytest.raises(Damaged, match="of other sizes"):
        load_hearing(tmp_path)
    (tmp_path / "whisbert.json").write_text("{}")
    with pytest.raises(Damaged, match="does not describe WhisBERT"):
        load_hearing(tmp_path)
    with pytest.raises(NotThere, match=r"whisbert\.json"):
        load_hearing(tmp_path / "nowhere")
