"""All stages on a CUDA device that is not there give what they give on a CPU, and seldom wait."""

import contextlib
import inspect
import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.extraction.in_flight import Copy, InFlight
from pipeline.extraction.settings import ExtractSettings, FeatureSettings
from pipeline.extraction.teacher import Teacher
from pipeline.models.encoders import load_masked_lm
from pipeline.reports.cells import read_results
from pipeline.tasks.minimal_pairs import log_likelihoods
from stages import distill, extract_teacher, finetune_mosei
from tests.helpers.caches import make_cache, vectors_of
from tests.helpers.encoders import save_encoder
from tests.helpers.mosei import sentences, write_mmsa
from tests.helpers.stage_one import run_stage
from tests.helpers.tars import write_corpus
from tests.helpers.whispers import save_random_whisper
from tests.rehearsal.device import missing, pretended

DISTILLATION_WAITS = 2
FINETUNING_WAITS = 2
"""The most waits of a step that is neither logged nor measured, with everything on the device."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="a real device is here"),
    pytest.mark.skipif(bool(missing()), reason=f"this torch has no {missing()}"),
]


@pytest.fixture(autouse=True)
def _one_thread():
    """The modes that watch belong to one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def listed(waits):
    """A line per place of the project that waited."""
    return "\n".join(f"{count} × {line}" for line, count in sorted(waits.items()))


# ---- stage one


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    save_random_whisper(folder / "whisper", layers=1, heads=1)
    return folder, write_corpus(folder / "tars", [7, 2])


def extract(speech, name, devices, **changes):
    folder, tars = speech
    given = {"context": "15s", "batch_size": 2, "workers": 0, "dtype": "float32", **changes}
    extract_teacher.run(
        extract_teacher.ExtractSettings(
            manifest=str(tars), cache=str(folder / name), teacher=str(folder / "whisper"),
            devices=devices, **given,
        )
    )  # fmt: skip
    return vectors_of(TeacherCache.open(str(folder / name)))


@pytest.mark.parametrize("pooling", ["fixed750", "length"])
def test_a_batch_of_extraction_waits_for_nothing_but_its_own_pace(speech, monkeypatch, pooling):
    seen, encode = [], Teacher.encode
    common = {"precision": "float32", "pooling": pooling}
    on_cpu = extract(speech, f"cpu-{pooling}", "cpu", **common)
    with pretended() as ledger:
        monkeypatch.setattr(
            Teacher, "encode", lambda *a: (seen.append(Counter(ledger.waits)), encode(*a))[1]
        )
        there = extract(speech, f"there-{pooling}", "0", **common)
    np.testing.assert_array_equal(there, on_cpu)
    of_a_batch = seen[3] - seen[2]  # the third of the first tar, when two were in flight
    assert {what.partition(": ")[2] for what in of_a_batch} == {"an event is waited for"}
    pace = [n for what, n in of_a_batch.items() if where(InFlight.mark, what)]
    copies = [n for what, n in of_a_batch.items() if where(Copy.wait, what)]  # the writer's thread
    assert pace == [1], listed(of_a_batch)
    assert sum(pace) + sum(copies) == of_a_batch.total(), listed(of_a_batch)


@pytest.mark.parametrize("kind", ["states", "whisper-mel"])
def test_rows_of_a_device_are_those_of_a_cpu(speech, kind):
    folder, tars = speech
    caches = []
    for device in ("cpu", "0"):
        common = {
            "manifest": str(tars), "cache": str(folder / f"{kind}-{device}"), "devices": device,
            "batch_size": 2, "workers": 0, "dtype": "float32",
        }  # fmt: skip
        with pretended() if device == "0" else contextlib.nullcontext():
            if kind == "states":
                teacher = {"teacher": str(folder / "whisper"), "precision": "float32"}
                run_stage(ExtractSettings(keep="states", context="15s", **teacher, **common))
            else:
                run_stage(FeatureSettings(features=kind, **common))
        caches.append(TeacherCache.open(common["cache"], kinds=KINDS))
    assert caches[0].written == 9
    assert caches[0].digest() == caches[1].digest()


def where(function, waited: str) -> bool:
    """Whether a wait of the ledger is in this function."""
    lines, first = inspect.getsourcelines(function)
    file, _, line = waited.partition(": ")[0].rpartition(":")
    return inspect.getsourcefile(function).endswith(file) and 0 <= int(line) - first < len(lines)


# ---- stage two


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A cache whose texts have 3 to 60 words, so that a CPU has several bands of lengths."""
    folder = tmp_path_factory.mktemp("taught")
    make_cache(folder / "cache", [60, 40], words=60)
    for kind, dropout in {"usual": 0.0, "dropping in attention": 0.1}.items():
        BertConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            hidden_dropout_prob=0.1, attention_probs_dropout_prob=dropout,
        ).save_pretrained(folder / kind)  # fmt: skip
    return folder


def train(taught, out, device, kind="usual", **changes):
    """The logged lines and the student's weights of a run of 10 steps, 5 per epoch."""
    given = {
        "epochs": 2.0, "batch": 16, "vocab_size": 200, "held_out": 0.1, "log_every": 5,
        "measure_every": 5, "learning_rate": 1e-3, "compile": "no", "precision": "float32",
        "checkpoint_minutes": 0.0, **changes,
    }  # fmt: skip
    distill.run(
        distill.DistillSettings(
            cache=str(taught / "cache"), out=out, device=device,
            student=str(taught / kind / "config.json"), **given,
        )
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    student = out / "student" / "model.safetensors"
    return lines, load_file(student) if student.is_file() else {}


RUNS = {
    "none": {"kd": ["none"]},
    "crd with negatives": {"kd": ["crd"], "crd_negatives": 20},
    "infonce of means": {"kd": ["infonce"], "kd_tokens": "mean"},
    "nst, clean": {"kd": ["nst"], "kd_pass": "clean", "kd_special": False},
    "nst by sequence": {"kd": ["nst"], "nst_pattern": "sequence"},
    "l1 of the first token": {"kd": ["l1"], "kd_tokens": "cls"},
    "cosine, random": {"kd": ["cosine"], "control": "random"},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_distillation_is_that_of_a_cpu_and_seldom_waits(taught, tmp_path, changes):
    cpu_lines, cpu_weights = train(taught, tmp_path / "cpu", "cpu", **changes)
    with pretended() as ledger, ledger.waits_by_step() as waits:
        lines, weights = train(taught, tmp_path / "there", "cuda", **changes)
    compared = ("loss", "gradient", "cosine", "spread", "validation/")
    for line, cpu_line in zip(lines, cpu_lines, strict=True):
        assert line.keys() - {"mfu"} == cpu_line.keys()
        for name in [n for n in line if n.startswith(compared)]:
            assert line[name] == pytest.approx(cpu_line[name], rel=1e-3, abs=1e-5), name
    for name, value in cpu_weights.items():
        torch.testing.assert_close(weights[name], value, atol=1e-4, rtol=1e-3)
    for step in (2, 7):  # neither logged nor measured, and no end of an epoch
        assert waits[step].total() <= DISTILLATION_WAITS, listed(waits[step])


def test_a_run_in_bf16_stops_and_goes_on_with_the_same_bits(taught, tmp_path):
    common = {"kd": ["crd"], "precision": "bf16", "kind": "dropping in attention"}
    with pretended():
        _, whole = train(taught, tmp_path / "whole", "cuda", **common)
        train(taught, tmp_path / "parts", "cuda", max_steps=4, **common)
        _, parts = train(taught, tmp_path / "parts", "cuda", **common)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_where_the_corpus_lies_changes_nothing(taught, tmp_path):
    common = {"kd": ["crd"], "crd_negatives": 20}
    with pretended():
        _, there = train(taught, tmp_path / "there", "cuda", **common)
    with pretended(free=10):
        _, here = train(taught, tmp_path / "here", "cuda", **common)
    assert all(torch.equal(value, here[name]) for name, value in there.items())


# ---- what comes after


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder / "encoder", [text for text, _ in sentences(60)])
    config = folder / "encoder" / "config.json"
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | without))
    write_mmsa(folder / "label.csv", 120)
    return folder


def finetune(encoder, out, device, **changes):
    finetune_mosei.run(
        finetune_mosei.MoseiSettings(
            data=encoder / "label.csv", checkpoint=[str(encoder / "encoder")], seeds="0",
            task=["sentiment3"], epochs=1, dropout=0.0, batch_size=2, precision="float32",
            device=device, out=out, **changes,
        )
    )  # fmt: skip
    return read_results(out)[0]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_fine_tuned_cell_is_that_of_a_cpu_and_seldom_waits(encoder, tmp_path, pooling):
    on_cpu = finetune(encoder, tmp_path / "cpu", "cpu", pooling=pooling)
    with pretended() as ledger, ledger.waits_by_step() as waits:
        there = finetune(encoder, tmp_path / "there", "cuda", pooling=pooling)
    assert there.metrics == on_cpu.metrics
    losses = [[e["train_loss"] for e in cell.epochs] for cell in (there, on_cpu)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    fewest = min(waits[2:], key=Counter.total)  # others write a point of the curve
    assert fewest.total() <= FINETUNING_WAITS, listed(fewest)


def test_minimal_pairs_are_compared_as_on_a_cpu(encoder):
    texts = ["the movie was great", "i think the actor was really boring"]
    _, student, tokenizer = load_masked_lm(str(encoder / "encoder"))
    on_cpu = log_likelihoods(student, tokenizer, texts)
    with pretended():
        student.to("cuda")
        there = log_likelihoods(student, tokenizer, texts)
    assert there == pytest.approx(on_cpu, abs=1e-4)
