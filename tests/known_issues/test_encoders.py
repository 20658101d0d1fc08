"""Encoders that once gave wrong figures without a word, by the commands that gave them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.distillation import assembly
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.student import load_student
from stages import distill, finetune_table, probe_blimp, report
from tests.helpers.caches import identity, make_cache, manifest, shard_result
from tests.helpers.encoders import save_encoder, save_kind

TEXTS = ["it was great", "i hated every minute of it", "something else entirely really"]
DEBERTA = {
    "relative_attention": True,
    "position_buckets": 32,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
KINDS = {"deberta-v2": DEBERTA, "mpnet": {}}


def finetune(folder, out, data, **changes):
    values = {"seeds": "0", "epochs": 1, "device": "cpu", "split_column": "split"}
    finetune_table.run(
        finetune_table.TableSettings(
            data=[str(data)], checkpoint=[str(folder)], out=out, **{**values, **changes}
        )
    )
    (file,) = (out / "predictions").glob("*.csv")
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write_table(path, texts):
    rows = [(texts[i % len(texts)], i % 2, ("train", "test")[i // 12 % 2]) for i in range(48)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "split"), *rows])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_equal_texts_get_equal_scores(kind, tmp_path, capsys):
    folder = save_kind(tmp_path / kind, TEXTS, kind, **KINDS[kind])
    rows = finetune(folder, tmp_path / "out", write_table(tmp_path / "t.csv", TEXTS))
    scores = torch.tensor([[float(v) for k, v in r.items() if k.startswith("score")] for r in rows])
    for start in range(3):
        same = scores[start::3]
        assert (same - same[0]).abs().max() < 1e-6
    assert (scores[0] - scores[1]).abs().max() > 1e-4
    assert f"{kind} reads padded batches by plain transformers" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_other_sentences_do_not_change_a_sentences_likelihood(kind, tmp_path):
    folder = save_kind(tmp_path / kind, TEXTS, kind, **KINDS[kind])
    accuracies = []
    for name, more in (("a", []), ("b", [(TEXTS[2], TEXTS[1])])):
        (tmp_path / name).mkdir()
        for i, (good, bad) in enumerate([(TEXTS[0], TEXTS[1]), *more]):
            line = {"sentence_good": good, "sentence_bad": bad}
            (tmp_path / name / f"{i}.jsonl").write_text(json.dumps(line) + "\n")
        out = tmp_path / f"{name}.json"
        probe_blimp.run(
            probe_blimp.BlimpSettings(
                data=tmp_path / name, checkpoint=[str(folder)], out=out, device="cpu"
            )
        )
        accuracies.append(json.loads(out.read_text())["scores"][kind]["paradigms"]["0"])
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_kind_is_distilled_further(kind, tmp_path):
    cache = make_cache(tmp_path / "c", [16]).location
    folder = save_kind(
        tmp_path / kind, [*TEXTS, *"abcdefghijklmnopqrstuvwxyz"], kind, **KINDS[kind]
    )
    distill.run(
        distill.DistillSettings(
            cache=cache, out=tmp_path / "run", kd=["crd"], init=str(folder), epochs=1.0, batch=8,
            device="cpu", max_tokens=32,
        )
    )  # fmt: skip
    student = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "student")
    assert student.config.model_type == kind
    assert "speechkd" not in (tmp_path / "run" / "student" / "config.json").read_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files_train_as_float32_ones_do(dtype, tmp_path):
    half = save_encoder(tmp_path / "half", TEXTS)
    AutoModelForMaskedLM.from_pretrained(half, dtype=dtype).save_pretrained(half)
    single = Path(shutil.copytree(half, tmp_path / "single"))  # with the same tokenizer
    AutoModelForMaskedLM.from_pretrained(half, dtype=torch.float32).save_pretrained(single)
    data = write_table(tmp_path / "t.csv", TEXTS)
    assert finetune(half, tmp_path / "a", data) == finetune(single, tmp_path / "b", data)


def test_texts_longer_than_robertas_positions_are_cut_and_counted(tmp_path):
    folder = save_kind(tmp_path / "r", TEXTS, "roberta", max_position_embeddings=20)
    texts = [*TEXTS, " ".join(["it was great"] * 20)]
    finetune(folder, tmp_path / "out", write_table(tmp_path / "t.csv", texts))
    (line,) = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(folder)(texts)["input_ids"]]
    assert json.loads(line)["truncated_texts"] == 12 * sum(length > 19 for length in lengths) > 0


def test_roberta_is_told_the_tokens_that_it_has_positions_for(tmp_path):
    folder = save_kind(tmp_path / "r", TEXTS, "roberta", max_position_embeddings=20)
    # positions begin after padding's number, which is 0 in this tokenizer
    settings = distill.DistillSettings(
        cache=make_cache(tmp_path / "c", [8]).location, out=tmp_path / "run", init=str(folder)
    )
    with pytest.raises(SpeechkdError, match="max-tokens 128: the student has positions for 19"):
        distill.run(settings)
    (tmp_path / "pairs").mkdir()
    line = {"sentence_good": " ".join(["great"] * 30), "sentence_bad": "it"}
    (tmp_path / "pairs" / "a.jsonl").write_text(json.dumps(line))
    with pytest.raises(SpeechkdError, match="it must be 1 to 19"):
        probe_blimp.run(
            probe_blimp.BlimpSettings(
                data=tmp_path / "pairs", checkpoint=[str(folder)], device="cpu"
            )
        )


def test_a_configuration_that_is_no_masked_lm_is_refused_before_any_work(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    settings = distill.DistillSettings(
        cache=make_cache(tmp_path / "c", [8]).location,
        out=tmp_path / "run",
        student=str(tmp_path / "config.json"),
    )
    with pytest.raises(SpeechkdError, match="a gpt2 is no masked LM"):
        distill.run(settings)


def test_unknown_tokens_are_warned_of_and_another_form_of_the_texts_avoids_them(tmp_path, capsys):
    folder = save_encoder(tmp_path / "m", TEXTS)  # knows no punctuation
    data = write_table(tmp_path / "t.csv", ["It was great!", "I hated every minute of it."])
    finetune(folder, tmp_path / "as-is", data)
    said = capsys.readouterr().err
    assert "WARNING: m: " in said
    assert "are unknown, in 100.0 % of the texts; most often '!', '.'" in said
    assert "--text-form" in said
    (line,) = (tmp_path / "as-is" / "results.jsonl").read_text().splitlines()
    unknown = json.loads(line)["unknown_tokens"]
    assert (unknown["unknown"], unknown["texts_with"], unknown["texts"]) == (48, 48, 48)
    finetune(folder, tmp_path / "bare", data, text_form="no-punctuation")
    assert "m: no token is unknown" in capsys.readouterr().err
    report.run(
        report.ReportSettings(
            results=[tmp_path / "as-is", tmp_path / "bare"], out=tmp_path / "report"
        )
    )
    page = (tmp_path / "report" / "report.md").read_text()
    assert "WARNING: to m " in page
    assert "were read in lower case and without punctuation" in page


def test_another_form_of_the_texts_is_another_recipe(tmp_path):
    folder = save_encoder(tmp_path / "m", TEXTS)
    data = write_table(tmp_path / "t.csv", TEXTS)
    finetune(folder, tmp_path / "out", data)
    with pytest.raises(SpeechkdError, match=r"recipe\.text_form: as-is there, lower now"):
        finetune(folder, tmp_path / "out", data, text_form="lower")


def test_a_probe_names_what_is_unknown(tmp_path, capsys):
    folder = save_encoder(tmp_path / "m", TEXTS)
    (tmp_path / "pairs").mkdir()
    line = {"sentence_good": "it was great.", "sentence_bad": "it was hated."}
    (tmp_path / "pairs" / "a.jsonl").write_text(json.dumps(line))
    probe_blimp.run(
        probe_blimp.BlimpSettings(
            data=tmp_path / "pairs", checkpoint=[str(folder)], device="cpu", out=tmp_path / "o.json"
        )
    )
    said = capsys.readouterr()
    assert "WARNING: m: " in said.err
    assert "most often '.'" in said.err
    assert "unknown tokens" in said.out
    assert json.loads((tmp_path / "o.json").read_text())["unknown_tokens"]["m"]["unknown"] == 2


@pytest.mark.parametrize("pieces", [30522, 100])
def test_distill_says_what_its_tokenizer_does_not_know(tmp_path, capsys, pieces):
    letters = [chr(0x4E00 + i) for i in range(300)]
    texts = ["".join(letters[(7 * i + j) % 300] for j in range(20)) for i in range(24)]
    cache = TeacherCache.create_or_open(tmp_path / "c", manifest([24]), identity(), {})
    result = shard_result(24, 8, 0)
    for sample, text in zip(result.samples, texts, strict=True):
        sample["text"] = text
    write_vectors(cache, 0, result, {})
    distill.run(
        distill.DistillSettings(
            cache=cache.location, out=tmp_path / "run", kd=["none"], student="bert-tiny",
            batch=8, device="cpu", vocab_size=pieces, dry_run=True,
        )
    )  # fmt: skip
    said = capsys.readouterr().err
    if pieces == 30522:
        assert "tokenizer: no token is unknown" in said
    else:
        assert "WARNING: tokenizer: " in said
        assert "of the letters of CJK" in said
        assert "Raise --vocab-size" in said


def test_a_padded_student_is_not_compiled(tmp_path, capsys):
    student, _ = load_student(str(save_kind(tmp_path / "m", TEXTS, "mpnet")))

    def can_compile(word):
        settings = distill.DistillSettings(cache="c", out=tmp_path / "run", compile=word)
        return assembly.can_compile(settings, student)

    assert not can_compile("auto")
    assert "a mpnet reads padded batches, so it trains uncompiled" in capsys.readouterr().err
    with pytest.raises(SpeechkdError, match="--compile yes: a mpnet reads padded batches"):
        can_compile("yes")
    student, _ = load_student(str(save_encoder(tmp_path / "b", TEXTS)))
    assert can_compile("yes")
