"""Rows of tables that hold audio become entries: columns, keys, doubles, and what is refused."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.arrow import find_files
from pipeline.shards.decoding import decode
from pipeline.shards.parts import Make, Plan, choose_columns, entries_of
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.refusals import Refusal
from pipeline.shards.survey import survey
from pipeline.shards.writing import Sample
from tests.helpers.audio_tables import rows, write_parquet
from tests.helpers.tars import audio

pytest.importorskip("pyarrow")


def plan(columns=None, **options):
    columns = columns or {"path": "audio", "text": "text", "key": "id"}
    return Plan(columns, **{"samples_per_shard": 10, "limit_s": 15, **options})


def surveyed(*paths, columns=None, **options):
    files = [file for path in paths for file in find_files(str(path))]
    made = plan(columns, **options)
    return survey(files, made, 0, lambda _: None), made


def chosen(tmp_path, row, **wanted):
    path = write_parquet(tmp_path / "t.parquet", [row])
    return choose_columns(find_files(str(path))[0], RecordingColumns(**wanted))


CLIP = {"bytes": b"x", "path": "a.wav"}


def test_columns_are_found_by_name_and_by_kind(tmp_path):
    row = {"segment_id": 3, "speech": CLIP, "sentence": "a", "speaker_id": 5, "begin_time": 7.5}
    assert chosen(tmp_path, row) == {
        "path": "speech",
        "text": "sentence",
        "key": "segment_id",
        "speaker": "speaker_id",
    }
    row = {"mp3": b"x", "text": "a"}
    assert chosen(tmp_path, row) == {"path": "mp3", "text": "text"}
    row = {"file_name": "a.wav", "text": "a"}
    assert chosen(tmp_path, row) == {"path": "file_name", "text": "text"}


def test_times_count_only_if_they_are_named(tmp_path):
    row = {"audio": CLIP, "text": "a", "start": 100.0, "end": 104.0, "duration": 4.0}
    assert set(chosen(tmp_path, row)) == {"path", "text"}
    assert chosen(tmp_path, row, start="start", end="end")["end"] == "end"


@pytest.mark.parametrize(
    ("row", "wanted", "word"),
    [
        ({"a": CLIP, "b": CLIP, "text": "a"}, {}, r"several columns of audio \(a, b\)"),
        ({"text": "a"}, {}, "no column for the audio"),
        ({"audio": CLIP, "words": "a"}, {}, "no column for the text.*--text-column"),
        ({"audio": CLIP, "text": "a"}, {"speaker": "who"}, "no column 'who'"),
    ],
)
def test_columns_that_are_absent_or_doubtful_are_told(tmp_path, row, wanted, word):
    with pytest.raises(SpeechkdError, match=word):
        chosen(tmp_path, row, **wanted)
    both = {"audio": CLIP, "other": CLIP, "text": "a"}
    assert chosen(tmp_path, both)["path"] == "audio"


def test_keys_texts_and_recordings(tmp_path):
    path = write_parquet(tmp_path / "t.parquet", rows(5))
    (part,), made = surveyed(path, recording_pattern=r"(talk_\d+)_")
    entries = [entry for entry, _ in entries_of(part, made, 0)]
    assert [entry.key for entry in entries] == [f"talk_{i // 4}_{i:03d}" for i in range(5)]
    assert [entry.recording for entry in entries] == ["talk_0"] * 4 + ["talk_1"]
    assert entries[2].where == f"{path}, row 3"
    (part,), made = surveyed(path, columns={"path": "audio", "text": "text"})
    assert [entry.key for entry, _ in entries_of(part, made, 3)] == ["t/000003", "t/000004"]


def test_a_key_that_any_earlier_file_has_is_refused_once(tmp_path):
    one = write_parquet(tmp_path / "a.parquet", rows(3))
    other = write_parquet(tmp_path / "b.parquet", [*rows(2, 2), *rows(1, 3)])
    parts, made = surveyed(one, other)
    assert [part.repeated for part in parts] == [(), (0, 2)]
    found = list(entries_of(parts[1], made, 0))
    assert [getattr(item, "reason", "") for item in found] == ["duplicate key", "", "duplicate key"]


def test_bad_rows_are_refused_one_by_one(tmp_path):
    good = rows(1)[0]
    table = [
        {**good, "id": "a", "text": None},
        {**good, "id": "b", "text": " "},
        {**good, "id": "c", "audio": {"bytes": None, "path": None}},
        {**good, "id": "d", "audio": {"bytes": None, "path": "absent.wav"}},
        {**good, "id": "e", "audio": {"bytes": b"RIFF", "path": "e.wav"}},
        {**good, "id": "f\ng", "audio": {"bytes": b"", "path": "f.wav"}},
        {**good, "id": "g", "audio": {"bytes": audio(16 * 16_000), "path": ""}},
        {**good, "id": None},
    ]
    (part,), made = surveyed(write_parquet(tmp_path / "t.parquet", table))
    results = [Make(15)(clip) for clip in entries_of(part, made, 0)]
    assert [getattr(result, "reason", result.key) for result in results] == [
        "missing text",
        "missing text",
        "missing audio",
        "missing audio",
        "undecodable audio",
        "unusable key",
        "too long",
        "t/000007",
    ]


def test_audio_beside_the_table_is_read_by_its_path(tmp_path):
    (tmp_path / "a.flac").write_bytes(audio(4_000))
    row = {"id": "a", "audio": {"bytes": None, "path": "a.flac"}, "text": "hello"}
    (part,), made = surveyed(write_parquet(tmp_path / "t.parquet", [row]))
    ((entry, content),) = entries_of(part, made, 0)
    assert content is None
    assert entry.path == tmp_path / "a.flac"
    assert isinstance(Make(15)((entry, content)), Sample)


def test_named_times_cut_the_audio_that_the_table_holds(tmp_path):
    row = {"id": "a", "audio": {"bytes": audio(32_000), "path": ""}, "text": "x", "s": 0.5, "e": 1}
    columns = {"path": "audio", "text": "text", "start": "s", "end": "e"}
    (part,), made = surveyed(write_parquet(tmp_path / "t.parquet", [row]), columns=columns)
    (clip,) = entries_of(part, made, 0)
    made_sample = Make(15)(clip)
    assert made_sample.duration_s == 0.5
    whole_S = decode(row["audio"]["bytes"])
    assert (decode(made_sample.flac) == whole_S[8_000:16_000]).all()
    bad = {**row, "s": float("nan")}
    (part,), made = surveyed(write_parquet(tmp_path / "n.parquet", [bad]), columns=columns)
    (refused,) = entries_of(part, made, 0)
    assert isinstance(refused, Refusal)
    assert "nan" in refused.detail


def test_a_file_without_a_column_of_the_first_is_named(tmp_path):
    one = write_parquet(tmp_path / "a.parquet", rows(1))
    other = write_parquet(tmp_path / "b.parquet", [{"audio": CLIP, "text": "a"}])
    with pytest.raises(SpeechkdError, match=r"b\.parquet: no column 'id'"):
        surveyed(one, other)
