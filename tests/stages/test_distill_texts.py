"""`speechkd distill --texts` as a user meets it: texts alone or beside a cache; what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from pipeline.foundation.errors import SpeechkdError
from stages.distill import DistillSettings, run
from tests.helpers.caches import make_cache, make_sequence_cache


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rows = [f"conversation{i // 10}\tthe cat {i % 90} ran far, and sang" for i in range(100)]
    (folder / "t.tsv").write_text("\n".join(["recording\ttext", *rows]))
    BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ).save_pretrained(folder / "tiny")
    make_cache(folder / "cache", [60, 20])
    make_sequence_cache(folder / "mels", [60, 20], "whisper-mel")
    return folder


@pytest.fixture
def settings(folder, tmp_path):
    def make(**changes):
        options = {
            "texts": [folder / "t.tsv"], "out": tmp_path / "run", "kd": ["none"], "epochs": 2.0,
            "student": str(folder / "tiny" / "config.json"), "batch": 16, "vocab_size": 300,
            "held_out": 0.1, "log_every": 1, "learning_rate": 1e-3, "device": "cpu",
            "checkpoint_minutes": 0.0,
        }  # fmt: skip
        return DistillSettings(**{**options, **changes})

    return make


def losses(out):
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [
        {k: v for k, v in line.items() if k.startswith("loss")}
        for line in lines
        if "loss/mlm" in line
    ]


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "mixed"])
def test_a_stop_changes_nothing_and_the_record_says_what_was_read(
    settings, folder, tmp_path, capsys, mixed
):
    cache = {"cache": str(folder / "cache"), "kd": ["crd"]} if mixed else {}
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    run(settings(**cache, out=whole))
    told = capsys.readouterr().err
    for stop in (5, 0):
        run(settings(**cache, out=parted, max_steps=stop))
    assert losses(parted) == losses(whole)
    one, other = (load_file(out / "student" / "model.safetensors") for out in (whole, parted))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    record = json.loads((whole / "run.json").read_text())
    texts = record["data"]["texts"]
    assert texts["texts"] == 100
    assert texts["repeated"]["again"] == 10
    assert texts["held_out_texts"] == 10
    assert record["identity"]["tables_sha256"] == texts["tables_sha256"]
    assert ("cache_sha256" in record["data"]) == ("cache_sha256" in record["identity"]) == mixed
    card = (whole / "README.md").read_text()
    assert "100 texts without speech among them" in card
    assert "texts without speech: 100 texts (90 to train on, 10 held out)" in told
    assert ("no distillation loss" in told) == ("clips with speech on average" in told) == mixed
    assert ("no teacher and no speech" in told) != mixed
    last = losses(whole)[-1]
    assert ("loss/crd" in last) == mixed


def test_other_texts_are_another_run_and_a_moved_table_is_not(settings, folder, tmp_path):
    run(settings(max_steps=2))
    content = (folder / "t.tsv").read_text()
    moved, other = tmp_path / "moved.tsv", tmp_path / "other.tsv"
    moved.write_text(content)
    run(settings(max_steps=3, texts=[moved]))
    other.write_text(content.replace("far", "near"))
    with pytest.raises(SpeechkdError, match="other content of the tables"):
        run(settings(texts=[other]))


def test_a_base_from_texts_starts_a_student_that_has_its_pieces(settings, folder, tmp_path):
    run(settings(cache=str(folder / "mels"), out=tmp_path / "base"))  # a new WordPiece from both
    base = tmp_path / "base" / "student"
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"conversation", "cat", "under"} & vocabulary.keys() == {"cat", "under"}
    assert json.loads((tmp_path / "base" / "run.json").read_text())["data"]["clips"] == 180
    run(settings(
        cache=str(folder / "cache"), kd=["l1"], texts=[], init=str(base), out=tmp_path / "l1",
        max_steps=1,
    ))  # fmt: skip
    assert losses(tmp_path / "l1")[0].keys() >= {"loss/mlm", "loss/l1"}


def test_a_dry_run_leaves_no_run(settings, tmp_path):
    run(settings(dry_run=True))
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kd": ["crd"]}, "--kd crd learns from speech, .*--kd none"),
        ({"texts": []}, "nothing to train on: .*--texts"),
    ],
)
def test_what_cannot_be_is_refused_with_a_cure(settings, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        settings(**changes)


def test_a_table_with_one_text_is_refused(settings, tmp_path):
    (tmp_path / "one.txt").write_text("the cat sang\n")
    with pytest.raises(SpeechkdError, match="holds 1 clip with text; at least 2"):
        run(settings(texts=[tmp_path / "one.txt"]))
