"""CMU-MOSEI from strangers: pickles opcode by opcode, HDF5 that points elsewhere, odd tables."""

import io
import json
import os
import pickle
import pickletools
import struct

import h5py
import numpy as np
import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.mosei.reading import read_mosei
from pipeline.tasks.mosei.tables import read_folds
from pipeline.tasks.mosei.unpickler import DataUnpickler
from stages.mosei_convert import ConvertSettings
from stages.mosei_convert import run as convert
from tests.fuzz.seeds import csds, label_rows


def converted(folder, name, **options):
    convert(ConvertSettings(data=folder / name, out=folder / "tidy.csv", **options))


def call(module, name, argument):
    """A pickle that calls a global with one text."""
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


# the last four within their lists, as below
HARMLESS = """
    INT LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    BYTEARRAY8 NONE NEWTRUE NEWFALSE UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT
    BINFLOAT EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT
    DICT SETITEM SETITEMS POP DUP MARK POP_MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT
    MEMOIZE PROTO STOP FRAME BININT BININT1 BININT2
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""


def test_every_opcode_is_either_harmless_or_refused():
    codes = {op.name: op.code.encode("latin1")[0] for op in pickletools.opcodes}
    refused = {n for n, code in codes.items() if DataUnpickler.dispatch[code].__name__ == "_refuse"}
    assert refused == set(codes) - set(HARMLESS.split())
    assert {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1"} <= refused


PICKLES = {
    "os.system by GLOBAL and REDUCE": call("os", "system", "touch ran"),
    "posix.system": call("posix", "system", "touch ran"),
    "builtins.eval": call("builtins", "eval", "open('ran','w')"),
    "builtins.exec by its old name": call("__builtin__", "exec", "open('ran','w')"),
    "subprocess.getoutput": call("subprocess", "getoutput", "touch ran"),
    "builtins.open": call("builtins", "open", "ran"),
    "importlib.import_module": call("importlib", "import_module", "os"),
    "numpy.load": call("numpy", "load", "x.npy"),
    "numpy.ctypeslib.load_library": call("numpy.ctypeslib", "load_library", "x"),
    "torch.load": call("torch", "load", "x"),
    "pandas.read_pickle": call("pandas", "read_pickle", "x"),
    "INST": b"(S'touch ran'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch ran'\no.",
    "NEWOBJ": b"\x80\x02cbuiltins\nbytearray\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04cbuiltins\nbytearray\n)}\x92.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",
    "STACK_GLOBAL with a path": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "a persistent id": b"Pevil\n.",
    "a binary persistent id": b"\x80\x02U\x04evilQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "BUILD on a function": b"c_codecs\nencode\n}S'__code__'\nK\x01sb.",
    "BUILD on the array type": b"cnumpy\nndarray\n}S'__class__'\nK\x01sb.",
    "BUILD on a list": b"]}S'x'\nK\x01sb.",
    "REDUCE of text": b"S'os'\n)R.",
    "a codec": b"c_codecs\nencode\n(S'abc'\nS'zip'\ntR.",
    "a set": b"\x80\x04\x8f(K\x01\x90.",
    "a bytearray of 10 GB": b"cbuiltins\nbytearray\n(\x8a\x05\x00\xe4\x0bT\x02tR.",
    "an out-of-band buffer": b"\x80\x05\x97.",
    "a list in itself as a key": b"]q\x00}h\x00K\x01s.",
    "a dictionary in itself": b"}q\x00S'train'\nh\x00s.",
    "nothing": b"",
    "no end": b"\x80\x04K\x01",
    "no pickle": b"hello\nworld",
    "an unknown opcode": b"\xff.",
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("allowed", [False, True])
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, content, allowed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(content)
    told = "refused as a pickle|not CMU-MOSEI" if allowed else "Add --allow-pickle"
    with pytest.raises(SpeechkdError, match=told):
        converted(tmp_path, "a.pkl", allow_pickle=allowed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pkl"]


@pytest.mark.parametrize("name", ["labels.csd", "label.csv", "folds.py", "a.parquet", "a.jsonl"])
def test_a_pickle_under_another_name_is_not_one(tmp_path, name):
    class Canary:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / name).write_bytes(pickle.dumps(Canary()))
    with pytest.raises(SpeechkdError):
        read_mosei(tmp_path / name, text=tmp_path / name)
    with pytest.raises(SpeechkdError):
        read_folds(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def part(**changes):
    good = {
        "id": ["v$_$0"],
        "raw_text": np.array(["said"]),
        "regression_labels": np.array([0.5], np.float32),
    }
    return {**good, **changes}


PARTS = {
    "ids of lists": {"id": [["v$_$0"]]},
    "texts of dictionaries": {"raw_text": [{}]},
    "labels of text": {"regression_labels": ["x"]},
    "labels of nothing": {"regression_labels": [[]]},
    "labels that are no list": {"regression_labels": 1},
    "ids that are no list": {"id": 1},
    "ids of another number": {"id": ["v$_$0", "v$_$1"]},
    "an id of one part": {"id": ["v"]},
    "MulT's ids of one part": {"raw_text": None, "id": [["v"]]},
}


@pytest.mark.parametrize("changes", PARTS.values(), ids=PARTS)
def test_a_pickle_of_other_shapes_is_told(tmp_path, changes):
    parts = {split: part() for split in ("train", "valid", "test")}
    parts["valid"] = {k: v for k, v in part(**changes).items() if v is not None}
    parts["valid"].setdefault("labels", np.zeros((1, 1, 1)))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(parts))
    with pytest.raises(SpeechkdError):
        read_mosei(tmp_path / "a.pkl", allow_pickle=True)


def write_csds(folder, change):
    labels, words = (content[1:] for content in csds())
    (folder / "CMU_MOSEI_TimestampedWords.csd").write_bytes(words)
    buffer = io.BytesIO(labels)
    with h5py.File(buffer, "a") as file:
        change(file, file["root/data/v0"])
    (folder / "CMU_MOSEI_Labels.csd").write_bytes(buffer.getvalue())


def replaced(group, name, value):
    del group[name]
    group[name] = value


def external_data(_, group):
    del group["features"]
    group.create_dataset("features", shape=(2, 7), dtype="f8", external=[("secret", 0, 112)])


def virtual_data(_, group):
    layout = h5py.VirtualLayout(shape=(2, 7), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2, 7))
    del group["features"]
    group.create_virtual_dataset("features", layout)


CSDS = {
    "a link to another file": lambda _, g: replaced(g, "features", h5py.ExternalLink("o.h5", "/x")),
    "a video in another file": lambda f, _: replaced(
        f["root/data"], "v0", h5py.ExternalLink("other.h5", "/x")
    ),
    "data in another file": external_data,
    "virtual data": virtual_data,
    "a link to itself": lambda _, g: replaced(g, "features", h5py.SoftLink(g.name + "/features")),
    "a link to nowhere": lambda _, g: replaced(g, "features", h5py.SoftLink("/nowhere")),
    "objects": lambda _, g: replaced(g, "features", np.array([[b"x"] * 7] * 2, dtype=object)),
    "text for times": lambda _, g: replaced(g, "intervals", np.array([[b"a", b"b"]] * 2)),
    "compounds": lambda _, g: replaced(g, "features", np.zeros((2, 7), [("a", "f4"), ("b", "S2")])),
    "nothing": lambda _, g: replaced(g, "features", h5py.Empty("f8")),
    "one number": lambda _, g: replaced(g, "features", 1.0),
    "a folder": lambda _, g: (g.__delitem__("features"), g.create_group("features")),
    "references": lambda f, g: replaced(g, "features", np.full((2, 7), f.ref, h5py.ref_dtype)),
    "a name of control characters": lambda f, _: f["root/data"].move("v0", "v\x1b[2J"),
    "metadata nested too deep": lambda f, _: replaced(
        f["root/metadata"], "dimension names", np.array([b"[" * 50_000])
    ),
}


@pytest.mark.parametrize("change", CSDS.values(), ids=CSDS)
def test_a_csd_is_read_from_itself_alone(tmp_path, change):
    (tmp_path / "secret").write_bytes(struct.pack("<14d", *range(14)))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((2, 7))
    write_csds(tmp_path, change)
    with pytest.raises(SpeechkdError, match=r"CMU_MOSEI_Labels\.csd"):
        converted(tmp_path, "CMU_MOSEI_Labels.csd")


def rows(**changes):
    first, *others = label_rows()
    return "\n".join(json.dumps(row) for row in [{**first, **changes}, *others])


TABLES = {
    "a number of 5,000 digits": rows().replace('"v0"', "1" * 5000, 1),
    "nested too deep": "[" * 100_000,
    "a label of no number": rows(sentiment="high"),
    "a label of infinity": rows(sentiment=float("inf")),
    "a list for a label": rows(sentiment=[1]),
    "a split of another name": rows(split="$(touch ran)"),
    "no object": "[1, 2]",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_a_broken_table_is_told(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(SpeechkdError, match=r"a\.jsonl"):
        read_mosei(tmp_path / "a.jsonl")


def test_half_a_character_is_replaced_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(rows(text="broken \ud83d here"))
    corpus = read_mosei(tmp_path / "a.jsonl")
    assert corpus.clips[0].text == "broken \ufffd here"
    assert corpus.notes == {"texts or ids with half a character (a lone surrogate), replaced": 1}


FOLDS = {
    "a call": "standard_train_fold = __import__('os').system('touch ran')",
    "a comprehension": "standard_train_fold = [open('ran', 'w') for _ in [1]]",
    "a deep nest": "standard_train_fold = " + "[" * 5000 + "]" * 5000,
    "a long sum": "standard_train_fold = " + "1+" * 100_000 + "1",
    "NUL": "standard_train_fold = ['a\0']",
    "nothing of use": "import os",
}


@pytest.mark.parametrize("source", FOLDS.values(), ids=FOLDS)
def test_a_list_of_folds_is_parsed_and_never_run(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cmu_mosei_std_folds.py").write_text(source)
    with pytest.raises(SpeechkdError):
        read_folds(tmp_path / "cmu_mosei_std_folds.py")
    assert not (tmp_path / "ran").exists()
