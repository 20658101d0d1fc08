"""What a text encoder begins with, against Hugging Face's own model of the same folder."""

import json
import shutil

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.models.encoders import load_pretrained, weights_sha256
from pipeline.models.student import load_student
from pipeline.pretraining.text_start import TextStart
from pipeline.reports.partners import groups_of, partners_of
from stages.pretrain_whisbert import run
from tests.helpers.caches import WORDS
from tests.helpers.encoders import save_encoder
from tests.helpers.whisbert import mel_cache, parts_of, settings_of

TEXTS = [" ".join(WORDS), "a b c d e f g h i j k l m n o p q r s t u v w x y z"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


@pytest.fixture(scope="module")
def cache(folder):
    mel_cache(folder / "mel")
    return folder / "mel"


@pytest.fixture(scope="module")
def encoder(folder):
    return save_encoder(folder / "encoder", TEXTS)


@pytest.fixture(scope="module")
def other(folder):
    return save_encoder(folder / "other", TEXTS, seed=1)


def record_of(cache, out, **changes):
    """The record of a run of one step, of masked-LM alone if no losses are named."""
    run(settings_of(cache, out, **{"losses": ["mlm"], "max_steps": 1, **changes}))
    return json.loads((out / "run.json").read_text())


def assembled(cache, **changes):
    """A method and its parts, for which nothing is written."""
    method, parts = parts_of(cache, cache.parent / "x", **{"losses": ["mlm"], **changes})
    parts.ahead.close()
    return method, parts


@pytest.fixture(scope="module")
def twin(cache, encoder, folder):
    record_of(cache, folder / "twin", init_text=str(encoder))
    return folder / "twin"


@pytest.fixture(scope="module")
def moved(encoder, folder):
    return shutil.copytree(encoder, folder / "moved")


@pytest.fixture(scope="module")
def mm(cache, twin, moved, folder):
    """A run beside audio that began with the same, which lies elsewhere."""
    given = {"losses": ["mlm", "mam"], "init_text": str(moved), "twin": twin}
    record_of(cache, folder / "mm", **given)
    return folder / "mm"


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_before_the_first_step_it_is_hugging_faces_model_of_that_folder(cache, encoder):
    method, parts = assembled(cache, init_text=str(encoder))
    theirs = AutoModelForMaskedLM.from_pretrained(encoder).eval()
    model = parts.module.eval()
    assert same(model.student.model.state_dict(), theirs.state_dict())

    batch = parts.batches.epoch(0)(0)
    made = method.maker(parts.data)(batch)
    text, tokenizer = made.text, AutoTokenizer.from_pretrained(encoder)
    lengths = text.packed.lengths_B.tolist()
    chosen_N = torch.zeros(sum(lengths), dtype=torch.bool)
    chosen_N[text.chosen_K] = True
    loss, texts = 0.0, [parts.data.corpus.texts[int(clip)] for clip in batch.own_B]
    parted = (x.split(lengths) for x in (text.masked_N, text.packed.ids_N, chosen_N))
    for said, masked_L, ids_L, chosen_L in zip(texts, *parted, strict=True):
        assert ids_L.tolist() == tokenizer(said, truncation=True, max_length=32)["input_ids"]
        with torch.no_grad():
            logits_LV = theirs(input_ids=masked_L[None]).logits[0]
        loss += functional.cross_entropy(logits_LV[chosen_L], ids_L[chosen_L], reduction="sum")
    with torch.no_grad():
        mine = model(made)["loss/mlm"]
    torch.testing.assert_close(mine, loss / int(chosen_N.sum()), rtol=1e-5, atol=1e-5)


def test_a_run_gives_its_text_encoder_and_its_tokenizer(cache, twin):
    _, parts = assembled(cache, init_text=str(twin))
    theirs = AutoModelForMaskedLM.from_pretrained(twin / "student")
    assert same(parts.module.student.model.state_dict(), theirs.state_dict())
    vocabulary = AutoTokenizer.from_pretrained(twin / "student").get_vocab()
    assert parts.data.tokenizer.get_vocab() == vocabulary


def test_the_beginning_is_said_and_recorded(cache, twin, encoder):
    method, parts = assembled(cache, init_text=str(encoder), student="bert-mini")
    said = "\n".join(method.notes(parts))
    assert f"the text encoder begins with {encoder}, a bert. BabyLM's rules count" in said
    assert "WARNING: --tokenizer" not in said
    assert "--student" in parts.settings.set_in_vain()
    whole = weights_sha256(AutoModelForMaskedLM.from_pretrained(encoder))
    record = json.loads((twin / "run.json").read_text())
    assert record["identity"]["init_text_sha256"] == whole
    card = (twin / "README.md").read_text()
    assert f"The text encoder began with the weights of `{encoder}` (sha256 `{whole[:16]}" in card
    assert "trained further on transcripts alone" in card
    fresh, parts = assembled(cache)
    assert fresh.comparable(parts)["setup"]["weights at the start"] == "fresh"
    assert fresh.identity() == {}
    assert "begins with" not in "\n".join(fresh.notes(parts))
    assert "text_began_with" not in fresh.record(parts)


def test_reports_find_what_it_began_with_and_its_twin_of_the_same_beginning(encoder, twin, mm):
    groups = groups_of({path.name: load_pretrained(str(path))[0] for path in (encoder, twin, mm)})
    (mine,) = (partners_of(group, groups) for group in groups if group.name == "mm")
    assert mine.start.name == "encoder"
    assert mine.baseline.name == "twin"


def test_a_twin_began_with_the_same_wherever_it_lies(cache, twin, mm, encoder, other, tmp_path):
    record = json.loads((mm / "run.json").read_text())
    assert record["twin_of"] == {"run": str(twin), "losses": "mlm"}
    given = {"losses": ["mlm", "mam"], "twin": twin}
    for start in (None, str(other)):
        with pytest.raises(SpeechkdError, match=r"than its losses .*init_text_sha256: here"):
            record_of(cache, tmp_path / "x", **given, init_text=start)
    assert not (tmp_path / "x").exists()
    cased = shutil.copytree(encoder, tmp_path / "cased")  # equal weights read other pieces
    rules = (cased / "tokenizer.json").read_text()
    (cased / "tokenizer.json").write_text(rules.replace('"lowercase": true', '"lowercase": false'))
    with pytest.raises(SpeechkdError, match=r"than its losses \(init_text_tokenizer_sha256"):
        record_of(cache, tmp_path / "x", **given, init_text=str(cased))


def test_a_run_is_not_gone_on_with_from_another_beginning(cache, mm, twin, moved, other):
    given = {"losses": ["mlm", "mam"]}
    with pytest.raises(SpeechkdError, match=r"init_text: there .*now None"):
        record_of(cache, mm, **given)
    given["init_text"] = str(moved)
    assert record_of(cache, mm, **given, max_steps=2)["result"]["step"] == 2
    before = (moved / "model.safetensors").read_bytes()
    shutil.copy(other / "model.safetensors", moved)
    with pytest.raises(SpeechkdError, match="other content of the init_text, sha256"):
        record_of(cache, mm, **given, max_steps=2)
    (moved / "model.safetensors").write_bytes(before)


def test_another_tokenizer_is_warned_of_and_a_larger_one_refused(cache, encoder, tmp_path):
    small = str(save_encoder(tmp_path / "small", ["the cat"]))
    method, parts = assembled(cache, init_text=str(encoder), tokenizer=small)
    said = "\n".join(method.notes(parts))
    assert f"WARNING: --tokenizer is another than that of {encoder}" in said
    assert set(method.identity()) == {"init_text_sha256"}
    with pytest.raises(SpeechkdError, match="Name the model's own tokenizer"):
        assembled(cache, init_text=small, tokenizer=str(encoder))
    method, parts = assembled(cache, init_text=str(encoder), tokenizer=str(encoder))
    assert "WARNING: --tokenizer" not in "\n".join(method.notes(parts))


def test_a_wrong_folder_is_told_as_distill_does(cache, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotThere) as told:
        record_of(cache, tmp_path / "x", init_text=str(tmp_path / "empty"))
    with pytest.raises(NotThere) as theirs:
        load_student(str(tmp_path / "empty"))
    assert str(told.value) == str(theirs.value)
    assert "is not a Hugging Face folder" in str(told.value)
    assert not (tmp_path / "x").exists()


def test_an_encoder_without_a_head_is_refused(encoder, tmp_path):
    headless = shutil.copytree(encoder, tmp_path / "headless")
    AutoModelForMaskedLM.from_pretrained(encoder).base_model.save_pretrained(headless)
    with pytest.raises(SpeechkdError, match="no MaskedLM head"):
        TextStart.load(str(headless))
