"""`speechkd pretrain ctal` as a user meets it: runs, stops, goes on, and what it leaves behind."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from pipeline.corpus.frame_features import FrameFeatures
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.text_referred import load_audio
from stages.pretrain_ctal import CtalSettings, run
from tests.helpers.caches import make_cache, make_sequence_cache, manifest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_sequence_cache(
        tmp_path_factory.mktemp("ctal") / "mels", [30, 20], "ctal-mel", width=4, most_rows=120,
        hop_samples=200,
    ).folder.path  # fmt: skip


@pytest.fixture
def settings(cache, tmp_path):
    def make(**changes):
        options = {
            "cache": cache, "out": tmp_path / "run", "layers": 2, "width": 16, "heads": 2,
            "vocab_size": 300, "epochs": 3.0, "batch": 8, "held_out": 0.2, "log_every": 1,
            "measure_every": 2, "learning_rate": 1e-3, "device": "cpu", "checkpoint_minutes": 0.0,
            "hold_out_by": "recording",
        }  # fmt: skip
        return CtalSettings(**{**options, **changes})

    return make


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return {
        line["step"]: {k: v for k, v in line.items() if k.startswith(("loss", "gradient"))}
        for line in metrics(folder)
        if "loss/mlm" in line
    }


def weights(folder):
    model = folder / "model"
    audio = load_audio(model / "audio").state_dict()
    text = AutoModel.from_pretrained(model / "text", add_pooling_layer=False)
    return {**text.state_dict(), **audio}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recipe": "repository"},
        {"stack": 3, "normalisation": "corpus"},
        {"deltas": "none", "normalisation": "none"},
        {"cross": "off"},
        {"mlm_weight": 0.0},
        {"mcam_weight": 0.0},
        {"control": "shuffled-text"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_a_run_leaves_a_model(settings, changes):
    made = settings(**changes)
    run(made)
    model = made.out / "model"
    tokenizer = AutoTokenizer.from_pretrained(model / "text")
    text = AutoModel.from_pretrained(model / "text", add_pooling_layer=False)
    ids = tokenizer("THE  cat sat")
    assert ids["input_ids"] == tokenizer("the cat sat")["input_ids"]
    assert text(**tokenizer("the cat", return_tensors="pt")).last_hidden_state.shape[-1] == 16
    features = FrameFeatures.of_record(json.loads((model / "features.json").read_text()), "")
    audio = load_audio(model / "audio")
    assert audio.config.columns == features.columns
    assert audio.config.cross == (made.cross == "on")
    record = json.loads((made.out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["comparable"]["control"] == (
        "shuffled" if made.control == "shuffled-text" else "real"
    )
    last = record["result"]["validation"][-1]
    assert np.isfinite([last[n] for n in ("loss/mlm", "loss/mcam", "line/zero")]).all()
    assert ("loss/mcam_other_text" in last) == (made.cross == "on")
    assert "model/text" in (made.out / "README.md").read_text()


def test_losses_fall(settings):
    made = settings(epochs=12.0)
    run(made)
    by_step = losses(made.out)
    first, last = by_step[1], by_step[max(by_step)]
    assert last["loss/mlm"] < first["loss/mlm"] - 0.3
    assert {"gradient/mlm", "gradient/mcam"} <= set(by_step[1])


def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(settings, tmp_path):
    whole = settings(out=tmp_path / "whole")
    run(whole)
    parted = settings(out=tmp_path / "parted", max_steps=4)
    run(parted)
    run(settings(out=tmp_path / "parted"))
    assert losses(whole.out) == losses(parted.out)
    one, other = weights(whole.out), weights(parted.out)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_text_encoder_can_be_gone_on_from(settings, tmp_path):
    first = settings(out=tmp_path / "first", epochs=1.0)
    run(first)
    second = settings(
        out=tmp_path / "second", text=str(first.out / "model" / "text"), layers=1, learning_rate=0.0
    )
    run(second)
    one, other = (
        AutoModel.from_pretrained(s.out / "model" / "text", add_pooling_layer=False).state_dict()
        for s in (first, second)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert load_audio(second.out / "model" / "audio").config.width == 16


def test_a_text_encoder_is_recorded_by_its_weights_wherever_it_lies_and_whenever(
    settings, tmp_path
):
    first = settings(out=tmp_path / "first", epochs=1.0)
    run(first)
    moved = tmp_path / "moved"
    shutil.copytree(first.out / "model" / "text", moved)
    texts = []
    for name, folder in (("whole", first.out / "model" / "text"), ("parted", moved)):
        if name == "parted":
            run(settings(out=tmp_path / name, text=str(folder), layers=1, max_steps=2))
        run(settings(out=tmp_path / name, text=str(folder), layers=1))
        record = json.loads((tmp_path / name / "run.json").read_text())
        texts.append(record["comparable"]["setup"]["text"])
    assert texts[0] == texts[1] != "fresh"


def test_clips_longer_than_there_are_positions_for_are_cut_and_counted(settings, capsys):
    made = settings(max_frames=40)
    run(made)
    assert " clips cut to 40 frames" in capsys.readouterr().err
    assert load_audio(made.out / "model" / "audio").config.positions == 40


def test_silence_single_frames_and_odd_texts_have_defined_results(settings, tmp_path, capsys):
    """Digital silence, a clip of one frame, capitals, and texts of no letters."""
    identity = sequence_identity("ctal-mel", width=4, most_rows=120, hop_samples=200, settings={})
    cache = TeacherCache.create_or_open(tmp_path / "odd", manifest([12]), identity, {})
    texts = ["small letters"] * 8 + ["SMALL LETTERS", "...", "\u200b", "  "]
    counts = [1] + [60] * 11
    source = np.random.default_rng(0)
    writer = ShardWriter(cache, 0)
    for clip, count in enumerate(counts):
        values = np.full((count, 4), np.log(1e-6)) if clip == 1 else source.normal(size=(count, 4))
        writer.append([clip], values.astype(np.float32), [count])
    samples = [
        {
            "position": clip, "key": f"c{clip}", "text": text, "duration_s": counts[clip] * 0.0125,
            "speaker": None, "recording": None,
        }
        for clip, text in enumerate(texts)
    ]  # fmt: skip
    assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    made = settings(cache=str(tmp_path / "odd"), held_out=0.0, mask_share=0.4)
    run(made)
    told = capsys.readouterr().err
    assert "clips without two segments of 250 ms, whose tokens alone are predicted: 1" in told
    for step in losses(made.out).values():
        assert all(np.isfinite(value) for value in step.values())
    tokenizer = AutoTokenizer.from_pretrained(made.out / "model" / "text")
    assert tokenizer(texts[8])["input_ids"] == tokenizer(texts[0])["input_ids"]


def test_capitals_under_a_tokenizer_of_small_letters_are_warned_of(settings, tmp_path, capsys):
    first = settings(out=tmp_path / "first", max_steps=1, lowercase=False)
    run(first)
    cache = make_sequence_cache(
        tmp_path / "loud", [30], "ctal-mel", width=4, most_rows=120, hop_samples=200
    )
    for file in (tmp_path / "loud" / "samples").glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({**x, "text": x["text"].upper()}) + "\n" for x in lines))
    run(settings(cache=cache.folder.path, text=str(first.out / "model" / "text"), dry_run=True))
    assert "WARNING: texts in capitals take " in capsys.readouterr().err


def test_a_cache_of_vectors_is_refused_with_the_command_that_makes_another(settings, tmp_path):
    vectors = make_cache(tmp_path / "vectors", [8])
    with pytest.raises(SpeechkdError, match="extract-features --features ctal-mel"):
        run(settings(cache=vectors.folder.path))


def test_a_dry_run_says_what_will_be_and_writes_nothing(settings, capsys):
    made = settings(dry_run=True, recipe="repository", control="shuffled-text")
    run(made)
    told = capsys.readouterr().err
    assert "scattered spans of 250 to 625 ms, a fate per frame" in told
    assert "that is not copied" in told
    assert "CONTROL: each clip has another one's text" in told
    assert not (made.out / "run.json").exists()
