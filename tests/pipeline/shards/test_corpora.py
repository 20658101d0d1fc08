"""Each layout is detected, and read into entries with their key, text, speaker and recording."""

import os

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.corpora import open_source
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.refusals import Refusal
from pipeline.shards.timed import Cutting


def put(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def said(corpus):
    return [(entry.key, entry.text) for entry in corpus.read()]


def test_folder_of_recordings_with_a_text_beside_each(tmp_path):
    put(tmp_path / "b" / "vid_1.0_2.5.wav")
    put(tmp_path / "b" / "vid_1.0_2.5.txt", "\ufeffhello\n")
    put(tmp_path / "a.FLAC")
    put(tmp_path / "notes.md")
    corpus = open_source(tmp_path)
    assert corpus.layout == "folder"
    refused, entry = corpus.read()
    assert isinstance(refused, Refusal)
    assert (refused.key, refused.reason) == ("a", "missing text")
    assert (entry.key, entry.text, entry.recording) == (
        "b/vid_1.0_2.5",
        "hello\n",
        "b/vid_1.0_2.5",
    )


def test_folder_text_of_another_encoding_or_endless_is_refused_by_name(tmp_path):
    for name, content in (("a", b"caf\xe9"), ("b", b"x" * (2**20 + 1)), ("c", b"fine")):
        put(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_bytes(content)
    os.mkfifo(tmp_path / "d.fifo")
    a, b, c = open_source(tmp_path).read()
    assert (a.key, a.reason) == ("a", "unusable text")
    assert (b.key, b.reason) == ("b", "unusable text")
    assert c.text == "fine"


def test_librispeech_chapters_are_recordings_and_their_readers_speakers(tmp_path):
    chapter = tmp_path / "test-other" / "84" / "121123"
    put(chapter / "84-121123.trans.txt", "84-121123-0000 GO DO\n84-121123-0001 YOU HEAR\n")
    put(chapter / "84-121123-0000.flac")
    put(chapter / "84-121123-0001.opus")
    corpus = open_source(tmp_path)
    assert corpus.layout == "librispeech"
    first, second = corpus.read()
    assert (first.key, first.text, first.speaker) == ("84-121123-0000", "GO DO", "84")
    assert first.recording == second.recording == "84-121123"
    assert first.path == chapter / "84-121123-0000.flac"
    assert second.path.suffix == ".opus"
    assert second.where.endswith("84-121123.trans.txt, line 2")


def test_ljspeech_texts_are_the_normalised_ones_and_never_quoted(tmp_path):
    text = 'LJ001-0001|In 1455, "so"|In fourteen fifty-five, "so"\nLJ001-0002|Only|\nx|y|z|w\n'
    put(tmp_path / "metadata.csv", text)
    put(tmp_path / "wavs" / "LJ001-0001.wav")
    for source in (tmp_path, tmp_path / "metadata.csv"):
        corpus = open_source(source)
        assert corpus.layout == "ljspeech"
        first, second, refused = corpus.read()
        assert first.text == 'In fourteen fifty-five, "so"'
        assert (first.recording, first.path) == ("LJ001", tmp_path / "wavs" / "LJ001-0001.wav")
        assert second.text == "Only"
        assert refused.reason == "malformed row"


@pytest.mark.parametrize(
    "content",
    [
        "file_name,transcription\nwavs/a.wav,x\n",
        "path|text\nwavs/a.wav|x\n",
        "path|text|speaker\nwavs/a.wav|x|s\n",
    ],
)
def test_a_table_beside_wavs_is_no_ljspeech_if_it_has_a_header(tmp_path, content):
    put(tmp_path / "metadata.csv", content)
    put(tmp_path / "wavs" / "a.wav")
    for source in (tmp_path, tmp_path / "metadata.csv"):
        corpus = open_source(source)
        assert (corpus.layout, said(corpus)) == ("table", [("wavs/a", "x")])


def test_a_folder_with_a_manifest_of_nemo(tmp_path):
    put(tmp_path / "train_manifest.json", '{"audio_filepath": "a.wav", "text": "x"}\n')
    put(tmp_path / "config.json", "{}")
    put(tmp_path / "a.wav")
    corpus = open_source(tmp_path)
    assert (corpus.layout, said(corpus)) == ("table", [("a", "x")])


def test_common_voice_is_its_validated_table_or_the_one_named(tmp_path):
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"
    put(tmp_path / "validated.tsv", header + 'abc\tcv_1.mp3\tx9\t"Quite, he said.\t2\n')
    put(tmp_path / "test.tsv", header + "d\tcv_2.mp3\tx8\tOther\t2\n")
    put(tmp_path / "clips" / "cv_1.mp3")
    corpus = open_source(tmp_path)
    assert corpus.layout == "commonvoice"
    assert "validated.tsv" in corpus.description
    (entry,) = corpus.read()
    assert (entry.key, entry.speaker, entry.text) == ("cv_1", "abc", '"Quite, he said.')
    assert entry.path == tmp_path / "clips" / "cv_1.mp3"
    (other,) = open_source(tmp_path / "test.tsv").read()
    assert other.key == "cv_2"


def test_common_voice_without_its_usual_table_asks_which(tmp_path):
    put(tmp_path / "train.tsv", "client_id\tpath\tsentence\n")
    (tmp_path / "clips").mkdir()
    with pytest.raises(SpeechkdError, match=r"no validated\.tsv .*train\.tsv.*Name the table"):
        open_source(tmp_path)


def test_table_alone_in_a_folder(tmp_path):
    put(tmp_path / "list.jsonl", '{"path": "a.wav", "text": "x"}\n')
    put(tmp_path / "a.wav")
    corpus = open_source(tmp_path)
    assert (corpus.layout, said(corpus)) == ("table", [("a", "x")])
    assert "path from 'path'" in corpus.description
    put(tmp_path / "other.csv", "path,text\n")
    with pytest.raises(SpeechkdError, match=r"list\.jsonl, other\.csv\. Name the one"):
        open_source(tmp_path)


def test_hugging_face_audio_folder(tmp_path):
    put(tmp_path / "metadata.csv", "file_name,transcription\ndata/a.mp3,x\n")
    put(tmp_path / "data" / "a.mp3")
    corpus = open_source(tmp_path)
    assert (corpus.layout, said(corpus)) == ("table", [("data/a", "x")])


def test_audio_kept_away_from_the_table(tmp_path):
    table = put(tmp_path / "lists" / "l.tsv", "path\ttext\na.wav\tx\n")
    (entry,) = open_source(table, audio_folder=tmp_path / "audio").read()
    assert (entry.key, entry.path) == ("a", tmp_path / "audio" / "a.wav")


def test_reading_twice_gives_the_same(tmp_path):
    for name in "cab":
        put(tmp_path / f"{name}.wav")
        put(tmp_path / f"{name}.txt", name)
    corpus = open_source(tmp_path)
    assert said(corpus) == said(corpus) == [("a", "a"), ("b", "b"), ("c", "c")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no recording in this folder or below it"),
        (["a.txt", "b/c.md"], "no recording in this folder or below it"),
        (["b/a.wav"], r"recordings without transcripts .*a\.wav.*Put a \.txt"),
    ],
)
def test_folders_with_nothing_to_use(tmp_path, files, message):
    for name in files:
        put(tmp_path / name)
    with pytest.raises(SpeechkdError, match=message):
        open_source(tmp_path)


def test_arguments_that_cannot_be(tmp_path):
    wav = put(tmp_path / "a.wav")
    put(tmp_path / "a.txt", "x")
    with pytest.raises(SpeechkdError, match="no such file or folder"):
        open_source(tmp_path / "none")
    with pytest.raises(SpeechkdError, match=r"a\.wav is not a table that can be read"):
        open_source(wav)
    with pytest.raises(SpeechkdError, match="--text-column changes nothing in the folder layout"):
        open_source(tmp_path, columns=RecordingColumns(text="x"))
    with pytest.raises(SpeechkdError, match="--audio-folder changes nothing in the folder layout"):
        open_source(tmp_path, audio_folder=tmp_path)
    with pytest.raises(SpeechkdError, match="is not a folder, as the librispeech layout"):
        open_source(wav, "librispeech")
    with pytest.raises(SpeechkdError, match="ljspeech layout has it beside wavs"):
        open_source(tmp_path, "ljspeech")
    with pytest.raises(SpeechkdError, match="tables in it: none"):
        open_source(tmp_path, "table")


@pytest.mark.parametrize("cutting", [Cutting(join_s=0.5), Cutting(tiers=("anna",))])
def test_a_flag_for_files_of_times_that_a_table_would_ignore_is_refused(tmp_path, cutting):
    (tmp_path / "t.csv").write_text("path,text\na.wav,hello\n")
    with pytest.raises(SpeechkdError, match=r"--(join|tier) changes nothing in the table layout"):
        open_source(tmp_path / "t.csv", cutting=cutting)
    open_source(tmp_path / "t.csv", cutting=Cutting())


def test_a_file_named_as_a_layout_of_folders_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("path,text\na.wav,hello\n")
    with pytest.raises(SpeechkdError, match="is not a folder, as the kaldi layout"):
        open_source(tmp_path / "t.csv", layout="kaldi")
