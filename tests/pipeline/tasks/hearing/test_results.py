"""The results folder is read as it was written; what is damaged or of something else is refused."""

import json

import numpy as np
import pytest
import torch

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.hearing.asking import Features
from pipeline.tasks.hearing.judging import Items, examine
from pipeline.tasks.hearing.results import HearingFolder, Judged, read_hearing

N = 80


def made(seed=0):
    rng = np.random.default_rng(seed)
    items = Items(
        level="clip",
        clip_n=np.arange(N),
        key_n=[f'a "key", {i}' for i in range(N)],
        number_n=np.full(N, -1),
        text_n=[""] * N,
        recording_n=np.arange(N) // 2,
        speaker_n=np.arange(N) // 4 % 10,
        type_n=np.full(N, -1),
        half_n=np.arange(N) // 40,
        fold_n=np.arange(N) % 4,
    )
    pitch = rng.standard_normal(N)
    pitch[3] = np.nan
    vectors = rng.standard_normal((N, 3))
    return examine(items, vectors, {"pitch": pitch}, among=30, seed=0)


def encoder(label="a", digest="1" * 64, **changes):
    values = {"source": "x", "objective": "crd", "control": "real", "pretraining_seed": 1}
    return Pretrained(
        label=label, parameters=7, weights_sha256=digest, **{**values, **changes}, setup={"x": 1}
    )


def judged(examination, known, role="encoder", start=""):
    features = Features.of_states(np.random.default_rng(1).standard_normal((N, 4)))
    return Judged(known, role, start, {"clip": examination.answers(features, torch.device("cpu"))})


def begin(path, examination=None, asked=None):
    examinations = {"clip": examination or made()}
    return HearingFolder(path, asked or {"seed": 0}, ["a note"], examinations, {"argv": []})


def test_what_is_written_is_read_again(tmp_path):
    examination = made()
    folder = begin(tmp_path / "o", examination)
    done = judged(examination, encoder(), start="s")
    folder.add(done)
    hearing = read_hearing(tmp_path / "o")
    assert hearing.asked == {"seed": 0}
    assert hearing.notes == ["a note"]
    (again,) = hearing.judged
    assert (again.encoder, again.role, again.start) == (encoder(), "encoder", "s")
    items = hearing.levels["clip"]
    assert items.candidates_n.tolist() == examination.sought_n.tolist()
    assert sorted(np.bincount(items.half_n[items.candidates_n > 0])) == [30, 30]
    for stored, made_now in (
        (items.heard, examination.truths()),
        (again.columns["clip"], done.columns["clip"]),
    ):
        assert stored.keys() == made_now.keys()
        for name, values in made_now.items():
            np.testing.assert_allclose(stored[name], values, rtol=1e-8)
    assert np.isnan(items.heard["heard:pitch:raw"][3])


def test_who_is_done_is_known_and_others_under_its_name_are_refused(tmp_path):
    examination = made()
    folder = begin(tmp_path / "o", examination)
    assert not folder.has(encoder())
    folder.add(judged(examination, encoder()))
    folder.add(judged(examination, encoder("b", "2" * 64), "untrained", "s"))
    again = begin(tmp_path / "o", examination)
    assert again.has(encoder())
    assert again.untrained() == {"s": "b"}
    with pytest.raises(SpeechkdError, match=r"other weights \(sha256 1111.*3333"):
        again.has(encoder(digest="3" * 64))
    with pytest.raises(SpeechkdError, match="another tokenizer"):
        again.has(encoder("b", "2" * 64), "t")


def test_results_of_something_else_are_refused_and_shown(tmp_path):
    examination = made()
    begin(tmp_path / "o", examination).add(judged(examination, encoder()))
    with pytest.raises(SpeechkdError, match="seed: 0 there, 1 now"):
        begin(tmp_path / "o", examination, {"seed": 1})
    with pytest.raises(SpeechkdError, match="holds results on other clips"):
        begin(tmp_path / "o", made(seed=5))
    begin(tmp_path / "o", examination)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SpeechkdError, match="holds other files"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(NotThere, match="no such file"):
        read_hearing(tmp_path)
    begin(tmp_path / "o")
    with pytest.raises(NotThere, match="no encoder is done yet"):
        read_hearing(tmp_path / "o")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("hearing.json", lambda text: text[:-5]),
        ("hearing.json", lambda text: text.replace('"missing"', '"lost"')),
        ("items-clip.csv", lambda text: text.replace(",half,", ",halves,")),
        ("items-clip.csv", lambda text: text + "one,more\n"),
        ("items-clip.csv", lambda text: "\n".join(text.split("\n")[:1]) + "\n"),
        ("encoders/a-11111111-clip.csv", lambda text: text.rsplit("\n", 3)[0] + "\n"),
        ("encoders/a-11111111-clip.csv", lambda text: text.replace(".", "x", 1)),
        ("encoders/a-11111111.json", lambda text: text.replace("label", "name", 1)),
        ("encoders/a-11111111.json", lambda text: text.replace('"encoder"', '"other"', 2)),
        ("encoders/a-11111111.json", lambda _: "[]"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, change):
    examination = made()
    begin(tmp_path / "o", examination).add(judged(examination, encoder()))
    path = tmp_path / "o" / name
    path.write_text(change(path.read_text()))
    with pytest.raises(Damaged, match=path.name):
        read_hearing(tmp_path / "o")


def test_results_of_a_later_format_are_refused(tmp_path):
    examination = made()
    begin(tmp_path / "o", examination).add(judged(examination, encoder()))
    path = tmp_path / "o" / "hearing.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(SpeechkdError, match="format 2"):
        read_hearing(tmp_path / "o")


def test_an_encoder_of_before_its_method_was_recorded_is_read(tmp_path):
    """A field that came later has a default, and its lack is no damage."""
    examination = made()
    begin(tmp_path / "o", examination).add(judged(examination, encoder()))
    (path,) = (tmp_path / "o" / "encoders").glob("*.json")
    record = json.loads(path.read_text())
    del record["encoder"]["method"]
    path.write_text(json.dumps(record))
    (again,) = read_hearing(tmp_path / "o").judged
    assert again.encoder == encoder()
