"""Every flag in every layout: it changes what is read, or it is refused by name."""

import json
from typing import get_args

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.asked import COLUMNS, FOLLOW_LINKS, TAKES
from pipeline.shards.corpora import Layout, open_source
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.timed import Cutting
from stages import shard
from stages.shard import ShardSettings
from tests.helpers.audio_tables import rows, write_parquet
from tests.helpers.corpora import put, put_audio
from tests.stages.test_shard import members

GRID = '"ooTextFile"\n"TextGrid"\n0 9\n<exists>\n2\n' + "".join(
    f'"IntervalTier"\n"{name}"\n0 9\n1\n0 9 "{text}"\n' for name, text in (("a", "hi"), ("b", "ho"))
)
CUES = "1\n00:00:00,000 --> 00:00:01,000\nhi\n\n2\n00:00:01,100 --> 00:00:02,000\nyou\n"
HEADER = "path,text,path2,text2,k,s,r,a,b,d,c"
ROW = "x.wav,hi,y.wav,you,key,anna,talk,0.5,1,0.25,2"
COLUMN_VALUES = dict(
    zip(COLUMNS, ("path2", "text2", "k", "s", "r", "a", "b", "d", "c"), strict=True)
)


def table(path, header=HEADER, row=ROW):
    return put(path, f"{header}\n{row}\n")


def tsv(path):
    header = HEADER.replace("path,text,", "path,sentence,") + ",client_id"
    return table(path, header.replace(",", "\t"), f"{ROW},ben".replace(",", "\t"))


def lhotse(folder):
    source = {"type": "file", "channels": [0], "source": "x.wav"}
    recording = {"id": "x", "sources": [source], "sampling_rate": 8_000}
    spoken = [
        {"id": f"s{i}", "recording_id": "x", "start": i, "duration": 1, "text": "hi"}
        for i in range(2)
    ]
    put(folder / "c_recordings_one.jsonl", json.dumps(recording))
    put(folder / "c_supervisions_one.jsonl", "\n".join(map(json.dumps, spoken)))


CORPORA = {
    "table": lambda folder: table(folder / "t.csv"),
    "commonvoice": lambda folder: (tsv(folder / "validated.tsv"), put(folder / "clips/x.mp3")),
    "audiofolder": lambda folder: table(folder / "one/metadata.csv"),
    "folder": lambda folder: [
        put(folder / name, text)
        for name, text in (("t.TextGrid", GRID), ("t.wav", ""), ("u.srt", CUES), ("u.wav", ""))
    ],
    "librispeech": lambda folder: put(folder / "1/2/1-2.trans.txt", "1-2-0 HI\n"),
    "ljspeech": lambda folder: (put(folder / "metadata.csv", "x|hi|hi\n"), put(folder / "wavs/x")),
    "kaldi": lambda folder: [
        put(folder / "one" / name, text)
        for name, text in {
            "wav.scp": "x x.wav\n",
            "text": "u hi\nv you\n",
            "segments": "u x 0 1\nv x 1 2\n",
            "utt2spk": "u anna\nv anna\n",
        }.items()
    ],
    "lhotse": lhotse,
    "listing": lambda folder: (
        put(folder / "one/stm/all.stm", "x 1 anna 0 1 hi\nx 1 anna 1 2 you\n"),
        put(folder / "one/x.wav"),
    ),
    "libritts": lambda folder: put(folder / "one/1/2/1_2_3.normalized.txt", "hi"),
    "mls": lambda folder: (
        put(folder / "one/transcripts.txt", "1_2_3\thi\n"),
        put(folder / "one/audio/x"),
    ),
    "timit": lambda folder: [
        put(folder / "one/DR1/A" / name, text)
        for name, text in (("S.TXT", "0 9 hi"), ("S.PHN", "0 1 h#"), ("S.WAV", ""))
    ],
    "vctk": lambda folder: (put(folder / "txt/p1/p1_1.txt", "hi"), put(folder / "wav48/x")),
}
FLAGS = {
    "--join": {"cutting": Cutting(join_s=5)},
    "--tier": {"cutting": Cutting(tiers=("b",))},
    "--split": {"split": "two"},
    "--audio-folder": {},
    "--recording-pattern": {"others": {"--recording-pattern"}},
    "--array-task": {"others": {"--array-task"}},
    **{
        flag: {"columns": RecordingColumns(**{flag[2:].removesuffix("-column"): value})}
        for flag, value in COLUMN_VALUES.items()
    },
}


def outcome(source, layout, **options):
    """What is read, or why nothing is."""
    try:
        return list(open_source(source, layout, **options).read())
    except SpeechkdError as error:
        return str(error)


def test_every_layout_says_which_flags_it_takes():
    assert {*TAKES} == {*get_args(Layout)} - {"auto"} == {*CORPORA, "parquet"}
    assert {flag for taken in TAKES.values() for flag in taken} == {*FLAGS}


@pytest.mark.parametrize("layout", CORPORA)
def test_a_flag_changes_what_is_read_or_is_refused(layout, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    CORPORA[layout](folder)
    put(tmp_path / "elsewhere" / "x.wav")
    assert open_source(folder).layout == layout
    before = outcome(folder, layout)
    assert "changes nothing" not in before
    for flag, options in FLAGS.items():
        if flag == "--audio-folder":
            options = {"audio_folder": tmp_path / "elsewhere"}
        after = outcome(folder, layout, **options)
        refused = f"{flag} changes nothing in the {layout} layout; leave it out" in after
        assert refused == (flag not in TAKES[layout]), (flag, after)
        assert after != before, flag


def run(source, out, **options):
    shard.run(ShardSettings(source=str(source), out=out, workers=0, **options))
    return members(out)


def refuses(source, out, flag, why, **options):
    with pytest.raises(SpeechkdError, match=rf"{flag} changes nothing, because .*{why}"):
        run(source, out, **options)
    assert not out.exists()


WHISPER = {"segments": [{"start": 0, "end": 1, "text": "hi"}, {"start": 1, "end": 2, "text": "so"}]}


def test_a_flag_that_has_nothing_to_say_in_this_corpus_is_refused(tmp_path):
    talks, out = tmp_path / "talks", tmp_path / "out"
    put_audio(talks / "t.wav")
    put(talks / "t.json", json.dumps(WHISPER))
    refuses(talks, out, "--tier", "no TextGrid and no ELAN", tier=["anna"])
    assert len(run(talks, tmp_path / "joined", join=1)) == 2
    put_audio(tmp_path / "plain" / "p.wav")
    put(tmp_path / "plain" / "p.txt", "hi")
    refuses(tmp_path / "plain", out, "--join", "no recording has segments", join=1)
    put_audio(tmp_path / "calls" / "c.wav", channels=2)
    put(tmp_path / "calls" / "c.stm", "c 1 x 0 1 hi\nc 2 y 1 2 you\n")
    refuses(tmp_path / "calls", out, "--channel", "names the channel", channel=2)
    path = put_audio(tmp_path / "apart" / "a.wav")
    listing = put(tmp_path / "t.csv", f"path,text\n{path},hi\n")
    refuses(listing, out, "--audio-folder", "below it", audio_folder=tmp_path / "elsewhere")
    assert len(run(listing, tmp_path / "below", audio_folder=tmp_path / "apart")) == 2


def test_splits_and_links_of_a_single_file(tmp_path):
    lhotse(tmp_path)
    listing = tmp_path / "c_supervisions_one.jsonl"
    with pytest.raises(SpeechkdError, match="--split changes nothing in a single file"):
        open_source(listing, split="one")
    with pytest.raises(SpeechkdError, match=f"{FOLLOW_LINKS} changes nothing in the lhotse layout"):
        open_source(listing, outside_links=True)
    open_source(tmp_path, split="one", outside_links=True)


def test_flags_of_a_corpus_in_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    made = write_parquet(tmp_path / "in" / "train-0.parquet", rows(2, talk="t"))
    others = {
        "--join": {"join": 1.0},
        "--tier": {"tier": ["a"]},
        "--audio-folder": {"audio_folder": tmp_path},
        "--follow-links": {"follow_links": True},
    }
    for flag, options in others.items():
        for layout in ("auto", "parquet"):
            with pytest.raises(
                SpeechkdError, match=f"{flag} changes nothing in the parquet layout"
            ):
                run(tmp_path / "in", tmp_path / "out", layout=layout, **options)
    with pytest.raises(SpeechkdError, match="--split changes nothing in a single file"):
        run(made, tmp_path / "out", split="train")
    named = {"recording_column": "talk", "recording_pattern": "(.)"}
    refuses(tmp_path / "in", tmp_path / "out", "--recording-pattern", "--recording-column", **named)
    listing = put(tmp_path / "t.csv", "path,text\n")
    with pytest.raises(SpeechkdError, match="is no Parquet or Arrow file"):
        run(listing, tmp_path / "out", layout="parquet")
