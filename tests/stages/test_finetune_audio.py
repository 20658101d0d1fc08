"""`speechkd finetune audio` as a user meets it, on made-up caches."""

import csv
import json

import pytest

from pipeline.cache.sequences import Clips
from pipeline.finetuning.audio_inputs import AudioClips
from pipeline.foundation.errors import SpeechkdError
from stages.finetune_audio import AudioSettings, run
from tests.helpers.caches import make_sequence_cache
from tests.helpers.speech_runs import save_speech_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finetune-audio")


@pytest.fixture(scope="module")
def clips(folder):
    make_sequence_cache(folder / "frames", [20, 20], "whisper-mel", width=4, most_rows=20)
    return AudioClips.open(str(folder / "frames"))


@pytest.fixture(scope="module")
def speech(folder, clips):
    return str(save_speech_run(folder / "speech-run", clips, objective="masked-audio"))


def write_table(path, clips, rows=(), **columns):
    """A row per clip: which of two classes it has is whether it is long."""
    with path.open("w", newline="") as file:
        names = ["id", "action", "object", "label", "value", "speaker", "split", "text", *columns]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for place, key in enumerate(clips.reader.clips.key):
            long = clips.reader.clips.rows[place] > 10
            row = {
                "id": key, "action": "on" if long else "off", "object": "light",
                "label": "long" if long else "short", "value": int(clips.reader.clips.rows[place]),
                "speaker": clips.reader.clips.speaker[place],
                "split": ["train", "train", "valid", "test"][place % 4],
                "text": clips.reader.clips.text[place],
            }  # fmt: skip
            writer.writerow(row)
        writer.writerows(rows)
    return str(path)


def settings(table, clips, speech, out, **changes):
    options = {
        "data": [table], "cache": clips.cache.location, "checkpoint": [f"Speech={speech}"],
        "out": out, "seeds": "0-1", "epochs": 2, "split_column": "split", "device": "cpu",
    }  # fmt: skip
    return AudioSettings(**{**options, **changes})


def results(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_speech_and_fresh_weights_become_cells_of_one_results_folder(
    clips, speech, tmp_path, capsys
):
    table = write_table(tmp_path / "labels.csv", clips)
    given = settings(
        table, clips, speech, tmp_path / "out", seeds="0-2", epochs=20, learning_rate=3e-3,
        checkpoint=[f"Speech={speech}", f"Scratch=fresh:{speech}"],
    )  # fmt: skip
    run(given)
    cells = results(given.out)
    assert {(c["checkpoint"]["label"], c["seed"]) for c in cells} == {
        (label, seed) for label in ("Speech", "Scratch") for seed in range(3)
    }
    cell = cells[0]
    assert cell["splits"] == {"train": 20, "valid": 10, "test": 10}
    assert cell["recipe"]["head"] == "mlp512"
    assert cell["recipe"]["schedule"] == "fixed"
    assert cell["data"]["cache_sha256"] == clips.cache.digest()
    speech_cell = next(c for c in cells if c["checkpoint"]["label"] == "Speech")
    assert speech_cell["checkpoint"]["objective"] == "masked-audio"
    for cell in cells:
        assert cell["epochs"][-1]["train_loss"] < cell["epochs"][0]["train_loss"]
    assert "Speech" in capsys.readouterr().out
    run(given)  # finished cells are not run again
    assert "6 of 6 cells are finished already" in capsys.readouterr().err


def test_regression_of_audio(clips, speech, tmp_path):
    table = write_table(tmp_path / "labels.csv", clips)
    given = settings(
        table, clips, speech, tmp_path / "out", kind="value", label_column="value", seeds="0"
    )
    run(given)
    assert results(given.out)[0]["metrics"]["mae"] > 0


def test_several_columns_make_one_label(clips, speech, tmp_path):
    table = write_table(tmp_path / "labels.csv", clips)
    given = settings(
        table, clips, speech, tmp_path / "out", label_column="action+object", seeds="0", epochs=1
    )
    run(given)
    cell = results(given.out)[0]
    assert cell["task"] == "action+object"
    assert cell["outputs"] == ["off + light", "on + light"]


def test_rows_without_a_clip_and_clips_without_a_row_are_counted(clips, speech, tmp_path, capsys):
    keys = clips.reader.clips.key
    more = [{"id": "nobody", "label": "long", "split": "train"}]
    table = write_table(tmp_path / "labels.csv", clips, more)
    text = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text(
        "\n".join(line for line in text if not line.startswith(f"{keys[0]},")) + "\n"
    )
    run(settings(table, clips, speech, tmp_path / "out", dry_run=True))
    told = capsys.readouterr().err
    assert "rows without a clip in the cache, such as 'nobody', left out: 1" in told
    assert "clips without a label that can be used, left out: 1" in told


def test_tasks_of_mosei_are_asked_of_audio(clips, speech, tmp_path, capsys):
    """Its own labels and splits; labels without audio and audio without labels are counted."""
    keys = clips.reader.clips.key
    lines = ["video_id,clip_id,text,sentiment,split"]
    lines += [
        f"video{place // 4},{place},text {place},{place % 7 - 3},{split}"
        for place in range(len(keys))
        for split in [["train", "train", "valid", "test"][place // 4 % 4]]
    ]
    (tmp_path / "mosei.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SpeechkdError, match=r"such as 'video0\[0\]'; those .* 'clip-0-0'"):
        run(settings(str(tmp_path / "mosei.csv"), clips, speech, tmp_path / "out", split_column="",
                     task=["sentiment7"]))  # fmt: skip
    place_of = {f"video{place // 4}[{place}]": place for place in range(len(keys) - 2)}
    place_of["video99[0]"] = len(keys) - 1
    given = settings(
        str(tmp_path / "mosei.csv"), clips, speech, tmp_path / "out", split_column="",
        task=["sentiment7", "sentiment2", "sentiment"], seeds="0", epochs=1,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clips, "place_of", property(lambda _: place_of))
        run(given)
    told = capsys.readouterr().err
    assert "labelled clips that the cache does not have, left out: 2" in told
    assert "clips without a label that can be used, left out: 1" in told
    assert "74.7 % is called 7-class, but its baseline of 75.9 is a figure of two classes" in told
    cells = {cell["task"]: cell for cell in results(given.out)}
    assert {*cells} == {"sentiment7", "sentiment2", "sentiment"}
    assert cells["sentiment7"]["splits"] == {"train": 22, "valid": 8, "test": 8}
    assert cells["sentiment7"]["data"]["name"] == "mosei-audio"
    assert cells["sentiment7"]["outputs"] == ["-3", "-2", "-1", "0", "+1", "+2", "+3"]


def test_a_table_of_other_clips_is_an_error_that_says_so(clips, speech, tmp_path):
    (tmp_path / "labels.csv").write_text("id,label,split\na,x,train\nb,y,test\n")
    table = str(tmp_path / "labels.csv")
    with pytest.raises(SpeechkdError, match="rows without a clip in the cache, such as 'a'"):
        run(settings(table, clips, speech, tmp_path / "out"))


def test_speakers_can_be_left_out_in_turn(clips, speech, tmp_path, capsys):
    table = write_table(tmp_path / "labels.csv", clips)
    given = settings(
        table, clips, speech, tmp_path / "out", split_column="", fold_column="speaker",
        fold_validation="next", seeds="0", epochs=1,
    )  # fmt: skip
    run(given)
    assert {cell["fold"] for cell in results(given.out)} == {f"speaker-{i}" for i in range(3)}


def test_frames_of_another_front_end_are_refused(speech, tmp_path):
    make_sequence_cache(
        tmp_path / "other", [20, 20], "whisper-mel", width=4, most_rows=20, hop_samples=320
    )
    other = AudioClips.open(str(tmp_path / "other"))
    table = write_table(tmp_path / "labels.csv", other)
    with pytest.raises(SpeechkdError, match="hop_samples: 320 there, 160 wanted"):
        run(settings(table, other, speech, tmp_path / "out"))


def test_longer_clips_than_the_encoder_has_positions_for_are_refused(speech, tmp_path):
    make_sequence_cache(tmp_path / "other", [20, 20], "whisper-mel", width=4, most_rows=30)
    other = AudioClips.open(str(tmp_path / "other"))
    table = write_table(tmp_path / "labels.csv", other)
    with pytest.raises(SpeechkdError, match=r"has a clip of .* has positions for 20"):
        run(settings(table, other, speech, tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"drop_duplicates": True}, "name their --text-column"),
        ({"id_column": ""}, "--id-column is empty"),
        ({"kind": "words"}, "--kind .*classes, value"),
        ({"kind": "speaker"}, "--kind .*classes, value"),
        ({"task": ["sentiment7"]}, "--split-column is for tables"),
        ({"task": ["sentiment7"], "split_column": "", "split_seed": 1}, "--split-seed is for"),
        ({"task": ["sentiment7"], "split_column": "", "data": ["a", "b"]}, "name that alone"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(clips, speech, tmp_path, changes, wanted):
    with pytest.raises(SpeechkdError, match=wanted):
        settings("labels.csv", clips, speech, tmp_path, **changes)


def test_the_best_epoch_needs_rows_to_be_judged_by(clips, speech, tmp_path):
    (tmp_path / "labels.csv").write_text(
        "id,label,split\n"
        + "".join(
            f"{key},{'xy'[i % 2]},{'train' if i < 20 else 'test'}\n"
            for i, key in enumerate(clips.reader.clips.key)
        )
    )
    with pytest.raises(SpeechkdError, match="write --selection last"):
        run(settings(str(tmp_path / "labels.csv"), clips, speech, tmp_path / "out"))
