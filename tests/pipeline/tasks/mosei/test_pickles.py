"""MMSA's and MulT's pickles are read as data, and one that wants to run something is refused."""

import os
import pickle

import numpy as np
import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.mosei.unpickler import read_pickle
from pipeline.tasks.splits import SPLITS

TIDY = "video_id,clip_id,split,text,sentiment,start_s,end_s\n"


def mmsa():
    return {
        split: {
            "id": [f"vid$_$eo{i}$_${n}" for n in range(2)],
            "raw_text": np.array(["well done", "b\u00e4d"], object),
            "regression_labels": np.array([1.5, -3.2], np.float32),
            "text": np.zeros((2, 50, 768), np.float32),
            "annotations": ["Positive", "Negative"],
        }
        for i, split in enumerate(SPLITS)
    }


def mult():
    return {
        split: {
            "id": np.array([[f"video{i}", "0.5", "2.25"]]),
            "labels": np.full((1, 1, 1), float(i), np.float32),
            "text": np.zeros((1, 50, 300), np.float32),
        }
        for i, split in enumerate(SPLITS)
    }


def dump(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_mmsas_pickle_is_read(tmp_path, protocol):
    path = dump(tmp_path / "unaligned.pkl", mmsa(), protocol)
    corpus = read_mosei(path, allow_pickle=True)
    assert corpus.counts() == {"train": 2, "valid": 2, "test": 2}
    assert corpus.clips[0].id == "vid$_$eo0[0]"
    assert [clip.text for clip in corpus.clips[:2]] == ["well done", "b\u00e4d"]
    assert [clip.sentiment for clip in corpus.clips[:2]] == [1.5, -3]
    assert corpus.notes == {"sentiment values beyond ±3, clamped": 3}


def test_mults_pickle_takes_its_texts_from_elsewhere(tmp_path):
    path = dump(tmp_path / "mosei_senti_data.pkl", mult())
    table = tmp_path / "texts.csv"
    table.write_text(TIDY + "".join(f"video{i},9,,text {i},0,0.5,2.25\n" for i in range(3)))
    corpus = read_mosei(path, text=table, allow_pickle=True)
    assert [(c.id, c.split, c.text, c.sentiment) for c in corpus.clips] == [
        (f"video{i}[0]", split, f"text {i}", float(i)) for i, split in enumerate(SPLITS)
    ]
    with pytest.raises(SpeechkdError, match="holds word vectors and no text"):
        read_mosei(path, allow_pickle=True)


def test_pickles_are_admitted_by_flag_only(tmp_path):
    with pytest.raises(SpeechkdError, match="--allow-pickle"):
        read_mosei(dump(tmp_path / "x.pkl", mmsa()))


class Command:
    """A pickle that would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Open:
    def __reduce__(self):
        return open, ("/etc/hostname",)


@pytest.mark.parametrize("kind", [Command, Open])
def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path, kind):
    target = tmp_path / "ran"
    path = dump(tmp_path / "x.pkl", {"train": kind(target) if kind is Command else kind()})
    with pytest.raises(SpeechkdError, match=r"x\.pkl is refused as a pickle: it asks for"):
        read_mosei(path, allow_pickle=True)
    assert not target.exists()


@pytest.mark.parametrize(
    "reach",
    [
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cnumpy\nload\n.",
        b"cbuiltins\neval\n.",
        b"c_codecs\ndecode\n.",
        b"cos\nsystem\n.",
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93(K\x04tR.",
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nset\nK\x00\x85C\x01btR.",
    ],
)
def test_other_globals_are_refused(tmp_path, reach):
    (tmp_path / "x.pkl").write_bytes(reach)
    with pytest.raises(SpeechkdError, match="refused as a pickle"):
        read_pickle(tmp_path / "x.pkl")


class Forged:
    """An array of objects whose items are bytes of the pickle's choice, taken for addresses."""

    def __init__(self, flags):
        self.flags = flags

    def __reduce__(self):
        state = (1, (1,), ForgedType(self.flags), False, b"A" * 8)
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state


class ForgedType:
    def __init__(self, flags):
        self.flags = flags

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, self.flags)


class ForgedRecord(ForgedType):
    def __reduce__(self):
        fields = {"a": (np.dtype("O"), 0)}
        return np.dtype, ("V8", False, True), (3, "|", None, ("a",), fields, 8, 1, 0)


class Buffer:
    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return np._core.numeric._frombuffer, (b"A" * 8, self.kind, (1,), "C")


@pytest.mark.parametrize(
    "kind", [Forged(0), Forged(63), Buffer(ForgedRecord(0)), Buffer(ForgedType(0))]
)
def test_a_forged_data_type_reaches_no_memory(tmp_path, kind):
    with pytest.raises(SpeechkdError, match="refused as a pickle"):
        read_pickle(dump(tmp_path / "x.pkl", kind))


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"hello"])
def test_damaged_pickles_are_refused(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(SpeechkdError, match="refused as a pickle"):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("content", [{"train": {}}, [1, 2], {"a": 1}])
def test_other_contents_are_told(tmp_path, content):
    with pytest.raises(SpeechkdError, match="not CMU-MOSEI as MMSA or MulT pickle it"):
        read_mosei(dump(tmp_path / "x.pkl", content), allow_pickle=True)


def test_plain_types_and_arrays_pass(tmp_path):
    content = {
        "a": np.arange(3, dtype=np.int16),
        "b": (1, 2.5, None, True, b"\xff\x00"),
        "d": np.array([b"x", "y"], object),
        "e": np.float32(0.5),
        "f": np.array([["v", "1"]]),
    }
    for protocol in range(2, 6):
        again = read_pickle(dump(tmp_path / "x.pkl", content, protocol))
        assert again["b"] == content["b"]
        assert again["e"] == 0.5
        for key in "adf":
            assert again[key].tolist() == content[key].tolist()
