"""lhotse's manifests as its own `to_file` writes them: cuts and supervisions, compressed."""

import gzip
import json

import pytest

from pipeline.foundation.errors import SpeechkdError
from tests.helpers.corpora import put, read, told


def listing(path, *records):
    text = "".join(json.dumps(record) + "\n" for record in records)
    return put(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


def recording(name="talk", source="talk.wav", kind="file", channels=(0,), **others):
    return {
        "id": name,
        "sources": [{"type": kind, "channels": list(channels), "source": source}],
        "sampling_rate": 16_000,
        "num_samples": 320_000,
        "duration": 20.0,
        "channel_ids": list(channels),
        **others,
    }


def supervision(name, start, duration, text, **others):
    return {
        "id": name,
        "recording_id": "talk",
        "start": start,
        "duration": duration,
        "channel": 0,
        "text": text,
        "speaker": "anna",
        **others,
    }


def cut(name, start, *supervisions, **others):
    return {
        "id": name,
        "start": start,
        "duration": 10.0,
        "channel": 0,
        "supervisions": list(supervisions),
        "recording": recording(),
        "type": "MonoCut",
        **others,
    }


WORDS = {"word": [["hello", 1.25, 0.5, 0.9], ["you", 1.8, 0.2]]}


def test_supervisions_with_recordings_beside_them(tmp_path):
    listing(tmp_path / "corpus_recordings_train.jsonl.gz", recording())
    supervisions = tmp_path / "corpus_supervisions_train.jsonl.gz"
    listing(
        supervisions,
        supervision("b", 5.0, 2.0, "later", speaker=None),
        supervision("a", 1.0, 1.5, "hello you", alignment=WORDS),
        supervision("c", 1.0, 1.5, None),
        supervision("d", 1.0, 1.5, "x", recording_id="other"),
        supervision("e", "soon", 1.5, "x"),
    )
    for source in (tmp_path, supervisions):
        found = read(source, "lhotse")
        assert told(found) == [
            ("c", "missing text"),
            ("d", "missing audio"),
            ("e", "segment outside the recording"),
            ("a", "hello you", "anna"),
            ("b", "later", None),
        ]
    one = found[3]
    assert (one.path, one.start_s, one.end_s) == (tmp_path / "talk.wav", 1.0, 2.5)
    assert [(w.text, w.start_s, w.end_s) for w in one.words] == [
        ("hello", 0.25, 0.75),
        ("you", 0.8, 1.0),
    ]


def test_times_in_a_cut_count_from_the_cut(tmp_path):
    path = listing(
        tmp_path / "cuts.jsonl",
        cut("x", 8.0, supervision("a", 1.0, 1.5, "hello you", alignment=WORDS)),
        cut("y", 0.0),
        cut("z", 0.0, type="MixedCut"),
    )
    found = read(path, "lhotse")
    assert told(found) == [
        ("a", "hello you", "anna"),
        ("y", "missing text"),
        ("z", "missing audio"),
    ]
    assert (found[0].start_s, found[0].end_s) == (9.0, 10.5)
    assert found[0].words[0].start_s == 0.25


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"kind": "command", "source": "touch proof |"}, "'command'; only files"),
        ({"kind": "url", "source": "https://x/y.wav"}, "'url'; only files"),
        ({"transforms": [{"name": "Speed"}]}, "transforms"),
        ({"sources": []}, "0 sources"),
    ],
)
def test_what_is_no_plain_file_is_refused_by_name(tmp_path, fault, word):
    record = {**cut("x", 0, supervision("a", 0, 1, "a")), "recording": recording(**fault)}
    (refused,) = read(listing(tmp_path / "cuts.jsonl.gz", record), "lhotse")
    assert refused.reason == "missing audio"
    assert word in refused.detail


def test_channels_count_where_the_file_has_several(tmp_path):
    both = recording(channels=(0, 1))
    spoken = [supervision(str(c), c, 1, "x", channel=c) for c in (0, 1, 2)]
    listing(tmp_path / "recordings.jsonl", both)
    found = read(listing(tmp_path / "supervisions.jsonl", *spoken), "lhotse")
    assert found[0].key == "2"
    assert "no channel 2" in found[0].detail
    assert [entry.channel for entry in found[1:]] == [0, 1]


def test_splits_and_absent_recordings(tmp_path):
    for split in ("dev", "test"):
        listing(tmp_path / f"cuts_{split}.jsonl.gz", cut(split, 0, supervision(split, 0, 1, "a")))
    with pytest.raises(SpeechkdError, match="dev, test"):
        read(tmp_path, "lhotse")
    assert told(read(tmp_path, "lhotse", split="dev")) == [("dev", "a", "anna")]
    alone = listing(tmp_path / "x" / "supervisions.jsonl", supervision("a", 0, 1, "a"))
    with pytest.raises(SpeechkdError, match=r"needs recordings\.jsonl"):
        read(alone, "lhotse")


def test_other_json_lines_are_a_table(tmp_path):
    path = put(tmp_path / "t.jsonl", '{"path": "a.wav", "text": "hello"}\n')
    assert told(read(path, "table")) == [("a", "hello", None)]
