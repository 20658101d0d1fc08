"""What is known about an encoder: its label, its run's objective, the digest of its weights."""

import json

import pytest
import torch

from pipeline.corpus.speech import speech_folder
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import check_labels, label_of, load_pretrained, name_and_source
from tests.helpers.encoders import save_encoder

TEXTS = ["one two three", "four five six"]


def test_a_plain_folder_is_an_encoder_without_objective(tmp_path):
    folder = save_encoder(tmp_path / "mine", TEXTS)
    described, encoder, tokenizer = load_pretrained(str(folder))
    assert (described.label, described.objective, described.control) == ("mine", None, None)
    assert described.parameters == sum(p.numel() for p in encoder.parameters())
    assert tokenizer("one")["input_ids"][0] == tokenizer.cls_token_id


def test_the_digest_is_of_the_weights_alone(tmp_path):
    """The pooler that Hugging Face draws at random on loading must not change it."""
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_encoder(tmp_path / name, TEXTS, seed=seed)
        torch.manual_seed(len(digests))
        digests.append(load_pretrained(f"x={tmp_path / name}")[0].weights_sha256)
    assert digests[0] == digests[1] != digests[2]


def test_a_label_can_be_given(tmp_path):
    folder = save_encoder(tmp_path / "mine", TEXTS)
    assert load_pretrained(f"BERT={folder}")[0].label == "BERT"


@pytest.mark.parametrize(
    ("written", "name", "source"),
    [
        ("runs/lr=1e-4", "", "runs/lr=1e-4"),
        ("good=runs/lr=1e-4", "good", "runs/lr=1e-4"),
        ("lr=1e-4=runs/lr=1e-4", "lr=1e-4", "runs/lr=1e-4"),
        ("lr=1e-4=plain", "lr=1e-4", "plain"),
        ("a/b=plain", "a/b", "plain"),
        ("plain", "", "plain"),
        ("BERT=bert-base-uncased", "BERT", "bert-base-uncased"),
        ("BERT=google/bert", "BERT", "google/bert"),
        ("runs/lr=3e-4", "", "runs/lr=3e-4"),
        ("good=runs/lr=3e-4", "good", "runs/lr=3e-4"),
        ("=plain", "", "plain"),
        ("x=", "x", ""),
    ],
)
def test_an_equals_sign_may_stand_in_a_path_and_in_a_name(
    tmp_path, monkeypatch, written, name, source
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lr=1e-4").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    assert name_and_source(written) == (name, source)


def test_an_encoder_in_a_folder_with_an_equals_sign_is_loaded(tmp_path):
    folder = save_encoder(tmp_path / "lr=1e-4", TEXTS)
    assert label_of(str(folder)) == "lr=1e-4"
    assert load_pretrained(f"good={folder}")[0].label == "good"
    with pytest.raises(SpeechkdError, match=r"lr=3e-4: there is no such folder"):
        load_pretrained(f"good={tmp_path / 'lr=3e-4'}")


def test_names_in_another_script_are_told_apart(tmp_path):
    check_labels(["语音=a", "文本=b", "naïve=c", "nave=d"])
    with pytest.raises(SpeechkdError, match="are both called"):
        check_labels(["语音=a", "语音=b"])


def test_a_run_tells_its_objective(tmp_path):
    save_encoder(tmp_path / "run" / "student", TEXTS)
    settings = {"kd": "crd", "control": "shuffled", "seed": 7}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"settings": settings}))
    described = load_pretrained(str(tmp_path / "run"))[0]
    assert described.label == "run"
    assert described.objective == "crd"
    assert described.control == "shuffled"
    assert described.pretraining_seed == 7


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"status": "running"},
            "its run of distill has not finished, and the same command carries",
        ),
        ({"status": "finished", "method": "splat"}, "it is a run of splat, which makes none"),
        ({"status": "running", "method": "whisbert"}, "its run of whisbert has not finished"),
    ],
)
def test_why_a_run_has_no_student_is_told(tmp_path, record, words):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}, **record}))
    with pytest.raises(SpeechkdError, match=rf"has no student/.*: {words}"):
        load_pretrained(str(tmp_path))
    with pytest.raises(SpeechkdError, match=rf"has no speech/front.json: {words}"):
        speech_folder(str(tmp_path))


def test_the_text_encoder_inside_a_run_of_ctal_is_named(tmp_path):
    (tmp_path / "model" / "text").mkdir(parents=True)
    record = {"settings": {}, "status": "finished", "method": "ctal"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(SpeechkdError, match=r"folder of an encoder, such as .*/model/text\."):
        load_pretrained(str(tmp_path))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(SpeechkdError, match="there is no such folder"):
        load_pretrained(str(tmp_path / "nothing"))
    with pytest.raises(SpeechkdError, match=r"config\.json"):
        load_pretrained(str(tmp_path))
