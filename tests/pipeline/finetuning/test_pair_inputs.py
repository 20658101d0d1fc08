"""Texts with their audio through WhisBERT's encoders, alone and by `finetune audio-text`."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModel

from pipeline.cache.sequences import SequenceReader, finished
from pipeline.finetuning.audio_text import AudioTexts
from pipeline.finetuning.pair_inputs import load_audio_text
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.pretraining.whisbert.saved import load
from stages import pretrain_whisbert
from stages.finetune_audio_text import AudioTextSettings, run
from tests.helpers.whisbert import audio_by_hand, fused_by_hand, mel_cache, settings_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def reader(folder):
    return SequenceReader(finished(mel_cache(folder / "mel", most_rows=120)), with_words=False)


def trained(folder, reader, name, losses):
    out = folder / name
    if not out.exists():
        location = reader.cache.location
        pretrain_whisbert.run(settings_of(location, out, losses=losses, epochs=1.0))
    return out


@pytest.fixture(scope="module")
def whole(folder, reader):
    return trained(folder, reader, "whole", ["mlm", "mmm"])


@pytest.fixture(scope="module")
def unjoined(folder, reader):
    return trained(folder, reader, "unjoined", ["mlm", "mmc"])


@pytest.fixture(scope="module")
def table(folder, reader):
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["key", "text", "label"])
        for i, (key, text) in enumerate(zip(reader.clips.key, reader.clips.text, strict=True)):
            lines.writerow([key, text, "ab"[i % 2]])
    return path


@pytest.fixture
def settings(table, reader, whole, tmp_path):
    def make(**changes):
        given = {
            "data": [str(table)], "cache": reader.cache.location, "checkpoint": [str(whole)],
            "out": tmp_path / "out", "seeds": "0", "epochs": 2, "batch_size": 8,
            "learning_rate": 1e-3, "device": "cpu",
        }  # fmt: skip
        return AudioTextSettings(**{**given, **changes})

    return make


def loaded(settings, reader, **changes):
    made = settings(**changes)
    texts, keys = reader.clips.text, reader.clips.key
    given = None if made.streams == "text" else reader
    return load_audio_text(AudioTexts(texts, keys, given, made.recipe()), made.checkpoint[0])


def cells(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def by_hand(run_folder, item, place):
    """CLS of text, audio and both of one example, by padded attention, one sequence at a time."""
    model, _ = load(run_folder / "whisbert")
    pairs = item.inputs().pairs([place])
    with torch.no_grad():
        ids = pairs.text.ids_N[None]
        reads = AutoModel.from_pretrained(run_folder / "student").eval()
        text = reads(input_ids=ids).last_hidden_state[0]
        audio = audio_by_hand(model.speech, model.speech.patches(pairs.audio.frames))
        both = None if model.fusion is None else fused_by_hand(model.fusion, audio, text)[0]
    return text[0], audio[0], both


@pytest.mark.parametrize("place", [0, 7])
def test_both_sides_are_read_by_the_fusion_encoders_cls(settings, reader, whole, place):
    item = loaded(settings, reader)
    with torch.no_grad():
        got = item.inputs().vectors(item.encoder.eval(), [3, place, 5], "auto")[1]
    torch.testing.assert_close(got, by_hand(whole, item, place)[2], rtol=1e-4, atol=1e-5)
    assert item.encoder.width == len(got) == 16


@pytest.mark.parametrize("of", ["whole", "unjoined"])
def test_without_fusion_both_cls_stand_side_by_side(settings, reader, of, request):
    source = request.getfixturevalue(of)
    item = loaded(settings, reader, fusion="concat", checkpoint=[str(source)])
    text, audio, _ = by_hand(source, item, 4)
    for streams, wanted in (
        ("both", torch.cat([text, audio])), ("text", text), ("audio", audio),
    ):  # fmt: skip
        item = loaded(settings, reader, fusion="concat", checkpoint=[str(source)], streams=streams)
        with torch.no_grad():
            got = item.inputs().vectors(item.encoder.eval(), [4, 9], "auto")[0]
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        assert item.encoder.width == len(wanted)


@pytest.mark.parametrize("fusion", ["cls", "concat"])
def test_means_are_those_of_each_sides_states(settings, reader, whole, fusion):
    item = loaded(settings, reader, fusion=fusion)
    pairs = item.inputs().pairs([6])
    model, _ = load(whole / "whisbert")
    with torch.no_grad():
        got = item.inputs().vectors(item.encoder.eval(), [2, 6], "mean")[1]
        reads = AutoModel.from_pretrained(whole / "student").eval()
        text = reads(input_ids=pairs.text.ids_N[None]).last_hidden_state[0]
        audio = audio_by_hand(model.speech, model.speech.patches(pairs.audio.frames))
        if fusion == "cls":
            states = fused_by_hand(model.fusion, audio, text)[1:]
            audio, text = states[: len(audio)], states[len(audio) :]
    means = text.mean(0), audio[1:].mean(0)
    wanted = torch.stack(means).mean(0) if fusion == "cls" else torch.cat(means)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_side_that_is_not_read_changes_nothing(settings, reader):
    """Unlike CTAL's, whose audio stack looks at the text."""
    item = loaded(settings, reader, streams="audio")
    texts = AudioTexts(["x"] * 40, reader.clips.key, reader, settings(streams="audio").recipe())
    other = load_audio_text(texts, settings().checkpoint[0])
    for one in (item, other):
        assert one.inputs().unknown is None
        assert not one.inputs().truncated
    with torch.no_grad():
        vectors = [x.inputs().vectors(x.encoder.eval(), [1, 2], "auto") for x in (item, other)]
    assert torch.equal(*vectors)


def test_batches_hold_every_example_once_and_size_counts_both_sides(settings, reader):
    inputs = loaded(settings, reader).inputs()
    assert sorted(i for batch in inputs.batches(range(40)) for i in batch) == list(range(40))
    tokens, patches = len(inputs.texts.ids[3]), -(-int(reader.clips.rows[3]) // 10)
    assert inputs.size([3]) == tokens + patches


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"streams": "text", "cache": ""},
        {"streams": "audio"},
        {"fusion": "concat", "freeze": True},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_the_command_takes_a_run(settings, changes, capsys):
    made = settings(**changes)
    run(made)
    (cell,) = cells(made.out)
    assert cell["checkpoint"]["objective"] == "mlm with mmm"
    assert cell["recipe"]["streams"] == made.streams
    assert cell["recipe"]["joining"] == {"auto": "cls"}.get(made.fusion, made.fusion)
    assert cell["recipe"]["orthogonal"] == 0
    assert len(cell["epochs"]) == 2
    said = capsys.readouterr().err
    assert "orthogonal" not in said  # CTAL's, so nothing is assumed of it


def test_frozen_encoders_stay_as_they_are_and_others_do_not(settings, reader):
    for freeze in (True, False):
        item = loaded(settings, reader, freeze=freeze)
        item.encoder.train()
        pairs = item.inputs().pairs([0, 1])
        assert item.encoder(pairs).requires_grad is not freeze
        assert item.encoder.text.training is not freeze
        trained_ones = {n for n, p in item.encoder.named_parameters() if p.requires_grad}
        assert bool(trained_ones) is not freeze
        assert "speech.mask_D" not in trained_ones


def test_scratch_draws_all_weights_anew_from_the_cells_seed(settings, reader, whole):
    item = loaded(settings, reader, checkpoint=[f"fresh=scratch:{whole}"])
    own = loaded(settings, reader)
    assert item.checkpoint.objective is None
    assert item.checkpoint.weights_sha256 != own.checkpoint.weights_sha256
    drawn = []
    for seed in (0, 0, 1):
        item.encoder.begin(torch.Generator().manual_seed(seed))
        drawn.append({n: p.clone() for n, p in item.encoder.state_dict().items()})
    assert all(torch.equal(drawn[0][n], drawn[1][n]) for n in drawn[0])
    for name in (
        "text.embeddings.word_embeddings.weight", "speech.stem.first.weight", "speech.cls_D",
        "fusion.from_audio.weight", "fusion.cls_D",
    ):  # fmt: skip
        assert not torch.equal(drawn[0][name], drawn[2][name]), name
        assert not torch.equal(drawn[0][name], own.encoder.state_dict()[name]), name
        spread = own.encoder.state_dict()[name].std()
        assert drawn[0][name].std() == pytest.approx(float(spread), rel=0.5), name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fusion": "sum"}, "--fusion sum is CTAL's"),
        ({"fusion_head": "repository"}, "--fusion-head repository is CTAL's"),
        ({"cache": ""}, "--streams both reads audio"),
    ],
)
def test_what_only_ctal_has_is_refused(settings, changes, told):
    with pytest.raises(SpeechkdError, match=told):
        run(settings(**changes))


def test_what_a_run_has_not_is_told(settings, reader, folder, whole, unjoined, tmp_path):
    with pytest.raises(NotThere, match="holds no fusion encoder"):
        run(settings(checkpoint=[str(unjoined)]))
    twin = trained(folder, reader, "twin", ["mlm"])
    with pytest.raises(NotThere, match="holds no audio encoder"):
        run(settings(checkpoint=[str(twin)], streams="audio"))
    shutil.copytree(whole / "whisbert", tmp_path / "whisbert")
    with pytest.raises(NotThere, match="student, which holds the text encoder"):
        run(settings(checkpoint=[str(tmp_path)]))
    mel_cache(tmp_path / "other", most_rows=120, width=8)
    mel_cache(tmp_path / "states", most_rows=120, kind="states")
    for other, message in (
        ("other", "width is 8 there and 6 here"),
        ("states", "kind is 'states' there and 'whisper-mel' here"),
    ):
        with pytest.raises(SpeechkdError, match=message):
            run(settings(cache=str(tmp_path / other)))


def test_a_twins_text_is_read_as_any(settings, reader, folder):
    twin = trained(folder, reader, "twin", ["mlm"])
    item = loaded(settings, reader, checkpoint=[str(twin)], streams="text")
    assert item.encoder.speech is None
    assert item.encoder.fusion is None
    assert item.encoder.width == 128


def test_ctal_is_never_asked_for_whisberts_joining(settings, reader):
    recipe = replace(settings().recipe(), joining="cls")
    with pytest.raises(SpeechkdError, match="--fusion cls is WhisBERT's"):
        AudioTexts(reader.clips.text, reader.clips.key, reader, recipe).load("runs/ctal")
    alone = replace(recipe, streams="text")  # nothing is joined
    with pytest.raises(NotThere, match="there is no folder"):
        AudioTexts(reader.clips.text, reader.clips.key, None, alone).load("runs/ctal")


def test_ctal_keeps_its_penalty_beside_a_run_of_whisbert(settings, whole):
    beside = settings(checkpoint=["runs/ctal", str(whole)], fusion="concat", orthogonal=0.5)
    assert beside.recipe().orthogonal == 0.5
    assert beside.set_in_vain() == []
    assert settings(orthogonal=0.5).recipe().orthogonal == 0
    assert settings(orthogonal=0.5).set_in_vain() == ["--orthogonal"]
