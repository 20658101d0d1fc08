"""`speechkd pretrain whisbert` as a user meets it, on made-up caches."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pipeline.cache.sequences import SequenceReader
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.models.encoders import load_masked_lm
from pipeline.models.whisbert.loading import CONFIG
from pipeline.pretraining.whisbert.saved import load
from pipeline.training.timing import STEPS
from stages.pretrain_whisbert import run
from tests.helpers.caches import WORDS, make_cache
from tests.helpers.whisbert import mel_cache, mel_cache_of, parts_of, settings_of


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    location = tmp_path_factory.mktemp("whisbert") / "mel"
    mel_cache(location)
    return location


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A finished run of all losses."""
    out = tmp_path_factory.mktemp("runs") / "mm"
    run(settings_of(cache, out))
    return out


def record(out):
    return json.loads((out / "run.json").read_text())


def weights(out):
    return load(out / "whisbert")[0].state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_a_run_leaves_what_the_contract_says(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    names = {"mlm", "mam", "mmc", "mmm_text", "mmm_audio", "atm"}
    assert {n.removeprefix("loss/") for n in steps[0] if n.startswith("loss/")} == names
    assert {"gain/audio", "gain/text", "chance/mmc", "accuracy/atm", "spread/patches"} <= set(
        steps[0]
    )
    assert {"gradient_text/mmm_text", "gradient_audio/mam", "waited_s"} <= set(steps[0])
    assert any("validation/loss/atm" in line for line in lines)
    told = record(finished)
    assert told["status"] == "finished"
    assert told["method"] == "whisbert"
    assert told["paper"]["mam_negatives"] == 20
    assert {"mam_span", "mask_share"} <= set(told["assumed"])
    assert told["cost"]["passes"]["fusion"] == 2
    assert told["comparable"]["control"] == "real"
    card = (finished / "README.md").read_text()
    assert "masked audio modelling" in card
    assert "median rank" in card
    assert (finished / "loss.png").stat().st_size > 1000


def test_the_student_is_an_ordinary_masked_lm(finished):
    """Every command that takes an encoder takes the run: it loads its student."""
    pretrained, student, tokenizer = load_masked_lm(str(finished))
    assert pretrained.objective == "mlm with mam + mmc + mmm + atm"
    assert pretrained.pretraining_seed == 0
    model = AutoModelForMaskedLM.from_pretrained(finished / "student")
    mine = weights(finished)
    for name, value in model.state_dict().items():
        assert torch.equal(value, mine[f"student.model.{name}"]), name
    ids = AutoTokenizer.from_pretrained(finished / "student")("the red cat", return_tensors="pt")
    assert tokenizer("the red cat")["input_ids"] == ids["input_ids"][0].tolist()
    assert model(**ids).logits.isfinite().all()
    assert student.width == 128


def test_a_size_that_its_weights_do_not_have_is_refused_before_it_takes_memory(finished, tmp_path):
    shutil.copytree(finished / "whisbert", tmp_path / "forged")
    config = tmp_path / "forged" / CONFIG
    content = json.loads(config.read_text())
    content["shape"]["audio"]["feed_forward"] = 2**24
    config.write_text(json.dumps(content))
    with pytest.raises(Damaged, match=r"describes .* parameters"):
        load(tmp_path / "forged")


def test_the_whole_loads_back(cache, finished, tmp_path):
    model, tokenizer = load(finished / "whisbert")
    method, parts = parts_of(cache, tmp_path / "other")
    parts.ahead.close()
    made = method.maker(parts.data)(parts.batches.epoch(0)(0))
    with torch.no_grad():
        one = model(made)
        parts.module.load_state_dict(model.state_dict())
        other = parts.module.eval()(made)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(tokenizer) == len(parts.data.tokenizer)


def test_retrieval_and_what_lengths_alone_give_are_recorded(finished):
    told = record(finished)
    ways = {
        f"{way}, {among} recordings"
        for way in ("audio to text", "text to audio")
        for among in ("across", "within")
    }
    assert set(told["retrieval"]) == ways
    across = told["retrieval"]["audio to text, across recordings"]
    assert across["queries"] == 8
    assert 0 <= across["r1"] <= across["r10"] <= 1
    assert across["candidates"] == 5  # two recordings of four clips: four others and itself
    assert across["chance_r1"] == pytest.approx(0.2)
    alone = told["length_only"]
    assert alone["atm"]["pairs"] == 16
    assert set(alone["mmc"]["retrieval"]) == ways


def test_the_twin_is_the_same_command(cache, finished, tmp_path, capsys):
    out = tmp_path / "twin"
    run(settings_of(cache, out, losses=["mlm"], twin=finished))
    said = capsys.readouterr().err
    assert "the text encoder reads each text once per step" in said
    told = record(out)
    assert told["twin_of"] == {"run": str(finished), "losses": "mlm,mam,mmc,mmm,atm"}
    assert told["cost"]["times_twin"] == 1
    assert told["comparable"]["objective"] == "none"
    assert told["comparable"]["setup"] == record(finished)["comparable"]["setup"]
    assert "length_only" not in told
    assert "text-only twin" in (out / "README.md").read_text()
    assert not any(name.startswith("speech") for name in weights(out))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1}, "seed: here 1, there 0"),
        ({"learning_rate": 2e-3}, "learning_rate"),
        ({"mask_share": 0.3}, "mask_share"),
        ({"losses": ["mlm", "mam", "mmc", "mmm", "atm"]}, "both runs have --losses"),
    ],
)
def test_what_is_no_twin_is_refused(cache, finished, tmp_path, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        run(settings_of(cache, tmp_path / "x", **{"losses": ["mlm"], "twin": finished, **changes}))
    assert not (tmp_path / "x").exists()


def test_a_twin_that_is_no_run_is_told(cache, tmp_path):
    with pytest.raises(NotThere, match="there is no run"):
        run(settings_of(cache, tmp_path / "x", twin=tmp_path))
    (tmp_path / "run.json").write_text('{"identity": {"method": "splat"}, "status": "finished"}')
    with pytest.raises(SpeechkdError, match="is no run of"):
        run(settings_of(cache, tmp_path / "x", twin=tmp_path))
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(Damaged, match="not the record of a run"):
        run(settings_of(cache, tmp_path / "x", twin=tmp_path))


def test_a_stop_between_changes_nothing_bit_for_bit(cache, finished, tmp_path):
    stopped = settings_of(cache, tmp_path / "run", max_steps=3)
    run(stopped)
    assert record(stopped.out)["status"] == "stopped"
    run(replace(stopped, max_steps=0))
    assert same(weights(stopped.out), weights(finished))


def test_another_loss_is_another_run(cache, finished):
    with pytest.raises(SpeechkdError, match="holds a run of other settings"):
        run(settings_of(cache, finished, losses=["mlm", "mam"]))


@pytest.mark.parametrize("losses", [["mlm", "mam"], ["mlm", "mmc"], ["mlm", "mmm"]], ids="+".join)
def test_only_what_a_loss_needs_is_built(cache, tmp_path, losses):
    _, parts = parts_of(cache, tmp_path / "x", losses=losses)
    parts.ahead.close()
    built = {name.split(".")[0] for name, _ in parts.module.named_parameters()}
    heads = {"mam": "audio_head", "mmc": "clip_heads", "mmm": "joint_text_head"}
    assert {"student", "speech", heads[losses[1]]} <= built
    assert ("fusion" in built) == (losses[1] == "mmm")
    assert "match_head" not in built


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_are_said_and_recorded(cache, tmp_path, capsys, control):
    given = settings_of(cache, tmp_path / "x", control=control, max_steps=1)
    run(given)
    assert f"CONTROL: the audio is {control}" in capsys.readouterr().err
    assert record(given.out)["comparable"]["control"] == control
    assert "This is a control" in (given.out / "README.md").read_text()


def test_a_dry_run_reads_the_frames_of_three_steps_and_leaves_nothing(
    cache, tmp_path, capsys, monkeypatch
):
    read, clips = SequenceReader._read, []

    def counting(reader, name, first_B, rows_B):
        clips.extend(first_B)
        return read(reader, name, first_B, rows_B)

    monkeypatch.setattr(SequenceReader, "_read", counting)
    settings = settings_of(cache, tmp_path / "x", dry_run=True)
    run(settings)
    assert 0 < len(clips) <= (STEPS + 1) * settings.batch  # the next batch is made ahead
    said = capsys.readouterr().err
    assert "times that of masked-LM alone" in said
    assert "For equal compute the twin would take --epochs" in said
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"losses": ["mam"]}, "mlm must be among them"),
        ({"losses": ["mlm", "mlm"]}, "name each loss once"),
        ({"losses": ["mlm", "mim"]}, "must be one of"),
        ({"weights": [1.0]}, "--weights has 1 values"),
        ({"weights": [1.0, 1.0, 1.0, 1.0, -1.0]}, "each must be at least 0"),
        ({"weights": [0.0, 1.0, 1.0, 1.0, 1.0]}, "mlm must weigh more"),
        ({"width": 18, "heads": 4}, "a multiple of --heads 4"),
        ({"mam_share": 1.0}, "--mam-share is 1.0"),
        ({"student": "bert-huge"}, "neither one of"),
    ],
)
def test_wrong_settings_are_named(cache, tmp_path, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        run(settings_of(cache, tmp_path / "x", **changes))


@pytest.mark.parametrize(
    ("kind", "features", "told"),
    [("states", "mel", "whisper-mel"), ("whisper-mel", "hidden", "states")],
)
def test_a_cache_of_another_kind_is_told_with_the_command(tmp_path, kind, features, told):
    mel_cache(tmp_path / "c", clips=8, kind=kind)
    with pytest.raises(SpeechkdError, match=told):
        run(settings_of(tmp_path / "c", tmp_path / "x", features=features))


def test_hidden_states_of_20_ms_make_patches_of_five_rows(tmp_path):
    mel_cache(tmp_path / "c", clips=20, kind="states", hop_samples=320, most_rows=100)
    _, parts = parts_of(tmp_path / "c", tmp_path / "x", features="hidden")
    assert parts.module.shape.per_patch == 5
    made = parts.workload.epoch(0)(0)
    patches = -(-parts.data.corpus.parts["frames"].lengths_of(parts.batches.epoch(0)(0).own_B) // 5)
    assert made.audio.places.inner.lengths_B.tolist() == patches.tolist()
    assert parts.module(made)["loss"].isfinite()
    parts.ahead.close()


def test_states_too_far_apart_are_refused(tmp_path):
    mel_cache(tmp_path / "c", clips=8, kind="states", hop_samples=1280)
    with pytest.raises(SpeechkdError, match="--stride 1"):
        run(settings_of(tmp_path / "c", tmp_path / "x", features="hidden"))


def test_clips_shorter_than_a_patch_are_trained_on(tmp_path):
    """Of one to three frames: nothing is hidden of them, and every loss is a number."""
    mel_cache(tmp_path / "c", most_rows=3)
    given = settings_of(tmp_path / "c", tmp_path / "x", epochs=1.0)
    run(given)
    line = json.loads((given.out / "metrics.jsonl").read_text().splitlines()[0])
    assert line["loss/mam"] == line["loss/mmm_audio"] == 0
    assert line["loss/mmm_text"] > 0


def test_a_batch_of_two_is_trained_on(cache, tmp_path):
    given = settings_of(cache, tmp_path / "x", batch=2, max_steps=2)
    run(given)
    assert record(given.out)["result"]["skipped"] == 0


def spoken(clips=24, text=None, recording=None, silent=False):
    """Clips of one text, or of one recording, or of digital silence; else all differ."""
    rng = np.random.default_rng(0)
    return [
        (
            text or f"the {' '.join(rng.choice(WORDS, 4))}",
            recording or f"recording-{i // 4}",
            np.full((180, 6), -0.5, np.float32)
            if silent
            else rng.standard_normal((int(rng.integers(60, 200)), 6)).astype(np.float32),
        )
        for i in range(clips)
    ]


def first_line(out):
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[0])


def test_clips_with_one_hidden_patch_have_nothing_to_tell_it_from(tmp_path):
    """Of three patches one is hidden: no term of the contrasts of patches, all others as ever."""
    frames = np.random.default_rng(0).standard_normal((24, 28, 6)).astype(np.float32)
    clips = [(f"the {WORDS[i % 7]} {WORDS[i % 5]}", f"r{i}", frames[i]) for i in range(24)]
    mel_cache_of(tmp_path / "c", clips)
    given = settings_of(tmp_path / "c", tmp_path / "x", mam_share=0.3, mam_span=1, max_steps=1)
    run(given)
    line = first_line(given.out)
    assert line["loss/mam"] == line["loss/mmm_audio"] == 0
    assert min(line["loss/mmc"], line["loss/mmm_text"], line["loss/atm"]) > 0
    assert record(given.out)["result"]["skipped"] == 0


def test_clips_of_one_recording_have_no_rivals_and_that_is_said(tmp_path, capsys):
    mel_cache_of(tmp_path / "c", spoken(recording="one"))
    given = settings_of(tmp_path / "c", tmp_path / "x", max_steps=2)
    run(given)
    assert "all clips to train on are of one recording" in capsys.readouterr().err
    assert first_line(given.out)["loss/mmc"] == 0
    assert first_line(given.out)["loss/atm"] > 0
    assert "retrieval" not in record(given.out)  # one recording is never held out


def test_texts_that_are_all_alike_match_every_audio_and_that_is_said(tmp_path, capsys):
    mel_cache_of(tmp_path / "c", spoken(text="the cat sat on the mat"))
    given = settings_of(tmp_path / "c", tmp_path / "x", max_steps=2)
    run(given)
    assert "have the same text" in capsys.readouterr().err
    assert first_line(given.out)["loss/mmc"] == 0
    assert record(given.out)["result"]["skipped"] == 0
    assert record(given.out)["retrieval"]["audio to text, across recordings"] is None


def test_digital_silence_gives_masked_audio_no_term(tmp_path):
    """Its patches are alike but for the first and the last two of a clip, which see beyond it."""
    mel_cache_of(tmp_path / "c", spoken(silent=True))
    given = settings_of(tmp_path / "c", tmp_path / "x", max_steps=2)
    run(given)
    assert record(given.out)["result"]["skipped"] == 0
    method, parts = parts_of(tmp_path / "c", tmp_path / "y", mam_share=0.9, mam_span=4)
    parts.ahead.close()
    made = method.maker(parts.data)(parts.batches.epoch(0)(0))
    model, audio = parts.module, made.audio
    patches = model.speech.patches(audio.frames)
    inner = audio.places.inner
    last_P = inner.lengths_B[inner.sequence_N] - 2
    edge_P = (inner.offset_N == 0) | (inner.offset_N >= last_P)
    assert len(patches[~edge_P].detach().unique(dim=0)) == 1
    terms = model._contrast(model.audio_head, model.speech(patches, audio.places), patches, audio)
    hidden = audio.hidden
    first_K = hidden.candidates.starts_B[hidden.rows.sequence_N]
    edge_KJ = edge_P[hidden.candidate_C[first_K[:, None] + hidden.other_KJ]]
    assert torch.equal(terms.counts_K, edge_KJ.any(1) | edge_P[hidden.place_K])


def test_pretraining_of_vectors_is_refused(tmp_path):
    make_cache(tmp_path / "v", [8])
    with pytest.raises(SpeechkdError, match="whisper-mel"):
        run(settings_of(tmp_path / "v", tmp_path / "x"))


@pytest.mark.slow
def test_two_processes_train_as_one(cache, tmp_path):
    """With losses that need the other process's clips; unmatched pairs are drawn per process."""
    losses = ["mlm", "mam", "mmc", "mmm"]
    run(settings_of(cache, tmp_path / "one", losses=losses, epochs=1.0))
    options = {
        "--out": tmp_path / "two", "--losses": ",".join(losses), "--student": "bert-tiny",
        "--width": 16, "--heads": 2, "--audio-layers": 1, "--fusion-layers": 1,
        "--vocab-size": 200, "--max-tokens": 32, "--batch-size": 8, "--epochs": 1,
        "--held-out": 0.2, "--log-every": 1, "--measure-every": 1, "--checkpoint-minutes": 0,
        "--learning-rate": 1e-3, "--device": "cpu",
    }  # fmt: skip
    launcher = [  # by number, since a bare machine may not know the name localhost
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
    ]  # fmt: skip
    command = ["-m", "stages.cli", "pretrain", "whisbert", str(cache)]
    words = [str(part) for pair in options.items() for part in pair]
    done = subprocess.run(
        [*launcher, *command, *words], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for wanted, got in zip(one, two, strict=True):
        for name in (name for name in wanted if "loss" in name or name.startswith("top1")):
            assert got[name] == pytest.approx(wanted[name], rel=2e-4, abs=1e-5), name
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, rtol=0, atol=2e-4)
