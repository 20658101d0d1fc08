"""What a table or a folder of recordings once got past `speechkd shard` without a word."""

import numpy as np
import pytest
import soundfile

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.tables import text_rows
from pipeline.shards.corpora import open_source
from pipeline.shards.decoding import read_clip
from pipeline.shards.refusals import RefusedError
from pipeline.tasks.mosei.reading import read_mosei


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('a.wav,"never closed\nb.wav,lost\n', 2),
        ('a.wav,fine\nb.wav,"never closed\nc.wav,lost\n', 3),
        ('a.wav,"closed" and on\n', 2),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path, rows, line):
    path = tmp_path / "t.csv"
    path.write_text(f"path,text\n{rows}", encoding="utf-8")
    with pytest.raises(SpeechkdError, match=f"begins on line {line} cannot be read"):
        list(text_rows(path))


def test_an_open_quote_swallows_no_rows_of_a_label_file_either(tmp_path):
    path = tmp_path / "label.csv"
    path.write_text(
        'video_id,clip_id,label,mode,text\nv,1,1.0,train,fine\nv,2,1.0,train,"open\nv,3,0,test,x\n',
        encoding="utf-8",
    )
    with pytest.raises(SpeechkdError, match="line 3 cannot be read"):
        read_mosei(path)


def test_a_wav_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    assert len(read_clip(path)) == 16_000
    path.write_bytes(path.read_bytes()[:9_000])
    with pytest.raises(RefusedError, match="last 23044 bytes are missing"):
        read_clip(path)


def test_a_wav_from_a_pipe_whose_header_knows_no_length_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    assert len(read_clip(path)) == 16_000


def test_hidden_files_are_no_recordings(tmp_path):
    for name in ("a", "._a"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(160, np.float32), 16_000)
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8")
    (tmp_path / ".trash").mkdir()
    soundfile.write(tmp_path / ".trash" / "b.wav", np.zeros(160, np.float32), 16_000)
    entries = list(open_source(tmp_path, "folder").read())
    assert [entry.key for entry in entries] == ["a"]
