"""Sound, texts and labels at the edge, through the stages: a defined result, or a defined refusal.

docs/robustness.md has the same cases as a table.
"""

import json

import numpy as np
import pytest
import soundfile

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_results
from pipeline.shards.manifest import read_manifest
from pipeline.shards.settings import ShardSettings
from stages.distill import DistillSettings
from stages.distill import run as distill
from stages.extract_teacher import ExtractSettings
from stages.extract_teacher import run as extract
from stages.finetune_mosei import MoseiSettings
from stages.finetune_mosei import run as finetune
from stages.shard import run as shard
from tests.helpers.caches import identity, manifest, samples_of, shard_result, vectors_of
from tests.helpers.encoders import save_encoder
from tests.helpers.whispers import save_random_whisper

SECOND = 16_000
NAN, INF = float("nan"), float("inf")
WAVES = {  # sound, and why it is refused: by `shard`, by `extract-teacher`; None where it is not
    "digital silence": (np.zeros(SECOND), None, None),
    "DC": (np.full(SECOND, 0.5), None, None),
    "full scale, every sample clipped": (np.sign(np.sin(np.arange(SECOND))), None, None),
    "beyond full scale": (np.sin(np.arange(SECOND)) * 1e6, None, None),
    "denormals": (np.full(SECOND, 1e-42), None, None),
    "the smallest and the largest float": (
        np.tile([1e-45, 3e38], SECOND // 2),
        None,  # clipped, as all beyond full scale
        "non-finite vector",
    ),
    "one sample": (np.ones(1), None, None),
    "two samples": (np.array([1.0, -1.0]), None, None),
    "15 s to the sample": (np.zeros(15 * SECOND), None, None),
    "15 s and a tenth": (np.zeros(15 * SECOND + SECOND // 10), None, None),
    "15.1 s and a sample": (np.zeros(15 * SECOND + SECOND // 10 + 1), "too long", "too long"),
    "no sample": (np.zeros(0), "empty audio", "empty audio"),
    "one NaN": (np.r_[np.zeros(99), NAN], "non-finite audio", "non-finite audio"),
    "one infinity": (np.r_[np.zeros(99), -INF], "non-finite audio", "non-finite audio"),
}


def write_waves(folder):
    for number, (wave, *_) in enumerate(WAVES.values()):
        soundfile.write(folder / f"{number:02d}.wav", wave.astype(np.float32), SECOND, "FLOAT")
        (folder / f"{number:02d}.txt").write_text("said")


def reasons(refused):
    return {int(refusal["key"]): refusal["reason"] for refusal in refused}


def expected(column):
    return {n: case[column] for n, case in enumerate(WAVES.values()) if case[column]}


def teacher_vectors(folder, name):
    save_random_whisper(folder / "teacher")
    settings = {"devices": "cpu", "max_refused": 1.0, "dtype": "float32"}
    extract(
        ExtractSettings(
            manifest=str(folder / name / "manifest.jsonl"),
            cache=str(folder / "cache"),
            teacher=str(folder / "teacher"),
            **settings,
        )
    )
    return TeacherCache.open(folder / "cache")


def test_sound_at_the_edge_through_shard_and_teacher(tmp_path):
    (tmp_path / "in").mkdir()
    write_waves(tmp_path / "in")
    shard(ShardSettings(source=tmp_path / "in", out=tmp_path / "out", max_refused=1.0, workers=0))
    refused = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").open()]
    assert reasons(refused) == expected(1)
    cache = teacher_vectors(tmp_path, "out")
    assert len(samples_of(cache)) == read_manifest(tmp_path / "out" / "manifest.jsonl").samples
    assert np.isfinite(vectors_of(cache)).all()


def test_sound_at_the_edge_in_a_tar_of_others(tmp_path):
    from tests.helpers.tars import line, tar_bytes, write_manifest

    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_waves(tmp_path / "in")
    members = [(p.name, p.read_bytes()) for p in sorted((tmp_path / "in").iterdir())]
    content = tar_bytes(members)
    (tmp_path / "out" / "a.tar").write_bytes(content)
    write_manifest(tmp_path / "out" / "manifest.jsonl", [line(content, len(WAVES))])
    cache = teacher_vectors(tmp_path, "out")
    assert reasons(cache.receipts()[0]["refused"]) == expected(2)
    assert np.isfinite(vectors_of(cache)).all()


TEXTS = {
    "only emoji": "🙂🙃👩‍👩‍👧‍👦🏳️‍🌈",
    "only punctuation": "?!… — «»",
    "right to left": "שלום עולם مرحبا بالعالم",
    "both directions": "one שתיים three \u202e four",
    "NUL bytes": "a\x00b\x00",
    "10,000 words": "word " * 10_000,
    "one word of 10,000 letters": "x" * 10_000,
    "combining marks": "e" + "\u0301" * 500,
    "no break": "a\u00a0b\u200bc\ufeff",
    "other line breaks": "a\u2028b\x85c",
    "not in Unicode's letters": "\U000e0001\uffff",
    "special tokens": "[MASK] [CLS] [PAD] </s> <|endoftext|>",
}


@pytest.fixture(scope="module")
def odd_texts(tmp_path_factory):
    """A cache whose texts are odd, four clips each, of which the last shard is plain."""
    folder = tmp_path_factory.mktemp("texts") / "cache"
    cache = TeacherCache.create_or_open(folder, manifest([4 * len(TEXTS), 48]), identity(8), {})
    odd, plain = (shard_result(n, 8, seed=n) for n in (4 * len(TEXTS), 48))
    for sample, text in zip(odd.samples, list(TEXTS.values()) * 4, strict=True):
        sample["text"] = text
    for number, result in enumerate((odd, plain)):
        write_vectors(cache, number, result, {})
    return folder


def run_distill(cache, out, **changes):
    values = {
        "kd": ["crd"], "student": "bert-tiny", "epochs": 1.0, "batch": 8, "device": "cpu",
        "vocab_size": 400,
    }  # fmt: skip
    distill(DistillSettings(cache=cache, out=out, **{**values, **changes}))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    return [line["loss/mlm"] for line in lines if "loss/mlm" in line]


def test_texts_at_the_edge_are_kept_and_trained_on(odd_texts, tmp_path):
    assert samples_of(TeacherCache.open(odd_texts)).texts[: len(TEXTS)] == list(TEXTS.values())
    losses = run_distill(odd_texts, tmp_path / "run")
    assert losses
    assert np.isfinite(losses).all()


def test_nothing_but_emoji_or_punctuation(tmp_path):
    for number, text in enumerate(("🙂", "?!")):
        cache = TeacherCache.create_or_open(
            tmp_path / f"c{number}", manifest([24]), identity(8), {}
        )
        result = shard_result(24, 8, seed=number)
        for sample in result.samples:
            sample["text"] = text
        write_vectors(cache, 0, result, {})
        assert np.isfinite(run_distill(tmp_path / f"c{number}", tmp_path / f"r{number}")).all()


def rows(**changes):
    """24 clips, 12 to train on, 6 each for the rest; `changes` by column are given the number."""
    made = []
    for i in range(24):
        split = "train" if i < 12 else "valid" if i < 18 else "test"
        row = {"video_id": f"v{i}", "clip_id": "0", "split": split, "text": f"text {i % 5}"}
        row["sentiment"] = (i % 7) - 3
        made.append({**row, **{name: change(i, row) for name, change in changes.items()}})
    return made


LABELS = {  # rows, tasks, what of the refusal (None: a result), what of the metrics
    "labels of NaN are left out": (
        rows(sentiment=lambda i, row: None if i == 0 else row["sentiment"]),
        ["sentiment"], None,
    ),
    "labels of another scale": (
        rows(sentiment=lambda i, _: 99 if i % 2 else -99), ["sentiment7"], "--label-scale",
    ),
    "all of one class": (rows(sentiment=lambda *_: 1), ["sentiment2", "sentiment7"], None),
    "all of one value": (rows(sentiment=lambda *_: 1), ["sentiment"], None),
    "one class in training, another in the test": (
        rows(sentiment=lambda i, _: 1 if i < 18 else -1), ["sentiment2"], None,
    ),
    "a test of one row": (rows()[:19], ["sentiment", "sentiment3"], None),
    "a validation of one row": ([*rows()[:13], *rows()[18:]], ["sentiment"], None),
    "no row to train on": (rows()[12:], ["sentiment"], "train"),
    "no row to test": (rows()[:18], ["sentiment"], "test"),
    "labels that are all NaN": (rows(sentiment=lambda *_: None), ["sentiment"], "label"),
    "labels of infinity": (
        rows(sentiment=lambda i, _: INF if i == 3 else 1), ["sentiment"], "finite",
    ),
    "texts at the edge": (
        rows(text=lambda i, _: list(TEXTS.values())[i % len(TEXTS)]), ["sentiment"], None,
    ),
    "texts of nothing": (rows(text=lambda *_: " \n"), ["sentiment"], "no clip with both text"),
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder") / "e", [f"text {i}" for i in range(5)])


@pytest.mark.parametrize(("made", "tasks", "refused"), LABELS.values(), ids=LABELS)
def test_labels_at_the_edge(encoder, tmp_path, made, tasks, refused):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, made)))
    settings = MoseiSettings(
        data=tmp_path / "a.jsonl", checkpoint=[str(encoder)], task=tasks, seeds="0", epochs=1,
        device="cpu", out=tmp_path / "r",
        label_scale="" if refused else "-3..3",  # one value of 24 labels tells no scale
    )  # fmt: skip
    if refused:
        with pytest.raises(SpeechkdError, match=refused):
            finetune(settings)
        return
    finetune(settings)
    cells = read_results(tmp_path / "r")
    assert {cell.task for cell in cells} == set(tasks)
    for cell in cells:
        json.dumps(cell.metrics, allow_nan=False)
        if cell.kind == "value":
            assert cell.metrics["mae"] >= 0
        else:
            assert 0 <= cell.metrics["accuracy"] <= 1
        if cell.splits["test"] == 1 and cell.kind == "value":
            assert cell.metrics["pearson"] is None
