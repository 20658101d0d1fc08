"""Inputs to begin from, made by code: good ones of every kind, and a few that are nearly good."""

import csv
import functools
import io
import json
import pickle
import tarfile
from pathlib import Path

import h5py
import numpy as np

from pipeline.tasks.mosei.clips import EMOTIONS
from tests.helpers.caches import make_cache, make_sequence_cache
from tests.helpers.tars import audio, encoded, line, sample, tar_bytes

AUDIO_KINDS = (
    ("FLAC", {}),
    ("WAV", {}),
    ("WAV", {"subtype": "FLOAT"}),
    ("WAV", {"subtype": "MS_ADPCM"}),
    ("OGG", {"subtype": "VORBIS"}),
    ("OGG", {"subtype": "OPUS"}),
    ("MP3", {}),
    ("AIFF", {}),
    ("AU", {}),
    ("CAF", {}),
    ("W64", {}),
    ("RF64", {}),
)


def audio_files() -> list[bytes]:
    """A short clip in every container, two channels of one at another rate among them."""
    made = [audio(800, kind=kind, **options) for kind, options in AUDIO_KINDS]
    return [*made, encoded(np.zeros((300, 2), np.float32), rate=44_100, kind="WAV")]


def tars() -> list[bytes]:
    """Tars of the three formats, with long names, sparse members, links and global headers."""
    members = [*sample("a"), *sample("b/c.d", 1), ("b/e.txt", b"hello"), ("x.npy", b"\x93NUMPY")]
    made = [tar_bytes(members)]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(
            fileobj=buffer, mode="w", format=form, pax_headers={"comment": "fuzz"}
        ) as tar:
            for name, kind in (
                ("d", tarfile.DIRTYPE),
                ("l.txt", tarfile.SYMTYPE),
                ("h.txt", tarfile.LNKTYPE),
                ("n.flac", tarfile.CHRTYPE),
                ("p.json", tarfile.FIFOTYPE),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "../../etc/passwd"
                tar.addfile(info)
            for name in ("é" * 40 + ".txt", ("long/" * 18) + "name.txt", "s.json"):
                info = tarfile.TarInfo(name)
                content = b'{"text": "hi"}'
                info.size = len(content)
                if form == tarfile.PAX_FORMAT:
                    info.pax_headers = {"GNU.sparse.major": "1", "mtime": "1.5", "size": "14"}
                tar.addfile(info, io.BytesIO(content))
        made.append(buffer.getvalue())
    sparse = tarfile.TarInfo("s.txt")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 512
    return [*made, sparse.tobuf(tarfile.GNU_FORMAT) + b"x" * 512 + b"\0" * 1024]


def manifests() -> list[bytes]:
    """Manifests good and not."""
    good = line(b"x" * 2000, 1)
    lines = [
        json.dumps({**vars(good), "url": url}) for url in ("a.tar", "s3://b/a.tar", "/x/é.tar")
    ]
    odd = [
        json.dumps({**vars(good), "url": url, "samples": count})
        for url in ("pipe:cat x", "file:///etc/passwd", "zip::x", "~/a{0..9}*.tar", "\ud800")
        for count in (1, 10**30, 1.5, True, None)
    ]
    return ["\n".join(lines).encode(), *(text.encode() for text in odd), b"[" * 400]


def label_rows() -> list[dict[str, object]]:
    """A few clips of CMU-MOSEI in the tidy table's columns."""
    return [
        {
            "video_id": f"v{i // 2}",
            "clip_id": i,
            "split": ("train", "valid", "test")[i // 2],
            "text": f"what is said, in {i}",
            "sentiment": i - 2.5,
            **dict.fromkeys(EMOTIONS, i / 3),
            "start_s": i,
            "end_s": i + 1.5,
        }
        for i in range(6)
    ]


def tables() -> list[bytes]:
    """Tables and lists; the first byte says which of `targets.SUFFIXES` the file gets."""
    rows = label_rows()
    made = []
    for number, delimiter in enumerate(",\t"):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        made.append(bytes([number]) + text.getvalue().encode())
    made.append(b"\x02" + "\n".join(map(json.dumps, rows)).encode())
    made.append(b"\x03" + json.dumps({"train": ["v0"], "valid": ["v1"], "test": ["v2"]}).encode())
    made.append(b"\x03" + json.dumps(rows).encode())
    made.append(b"\x04standard_train_fold = ['v0']\nstandard_test_fold = ['v2', 'v1']\n")
    made.append(b"\x05v0___0___0.0___1.5___what is said\nv0___1___1.0___2.5___and ___ more\n")
    return made


def pickles() -> list[bytes]:
    """MMSA's and MulT's pickles in miniature, by several protocols, and pickles of other things."""
    mmsa = {
        split: {
            "id": [f"v{n}$_$0", f"v{n}$_$1"],
            "raw_text": np.array(["what is said", "and more"]),
            "regression_labels": np.array([0.5, -1.0], np.float32),
            "vision": np.zeros((2, 3)),
        }
        for n, split in enumerate(("train", "valid", "test"))
    }
    mult = {
        split: {
            "id": np.array([[f"v{n}", "0.0", "1.5"]], dtype=object),
            "labels": np.zeros((1, 1, 7)),
        }
        for n, split in enumerate(("train", "valid", "test"))
    }
    others = [{1, 2}, bytearray(b"x"), 1j, np.float32(2), (1, ("a", [None])), b"bytes", "text"]
    made = [pickle.dumps(x, protocol=p) for x in (mmsa, mult) for p in (0, 2, 4, 5)]
    return [
        *made,
        *(pickle.dumps(x, protocol=p) for x in others for p in (2, 4)),
        b"cos\nsystem\n.",
    ]


@functools.cache
def csds() -> list[bytes]:
    """Label and word files; the first byte says which it is."""
    made = []
    for kind in (0, 1):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            data = file.create_group("root/data")
            for video in ("v0", "v1"):
                group = data.create_group(video)
                group["intervals"] = np.array([[0.0, 1.5], [1.5, 2.0]])
                group["features"] = (
                    np.array([["word"], ["sp"]], dtype="S8") if kind else np.ones((2, 7))
                )
            names = json.dumps(["sentiment", *EMOTIONS]).encode()
            file["root/metadata/dimension names"] = np.array([names])
        made.append(bytes([kind]) + buffer.getvalue())
    return made


CACHE_FILES = (
    "zarr.json",
    "embedding/zarr.json",
    "manifest.jsonl",
    "samples/000000.jsonl",
    "receipts/000000.json",
    "embedding/c/0/0",
)
"""What is replaced in a cache, by the number that the first byte of an input gives."""


def small_cache(folder: Path) -> Path:
    """A finished cache of one shard with two clips."""
    make_cache(folder / "cache", [2], d_model=4, rows_per_object=4)
    return folder / "cache"


SEQUENCE_FILES = tuple(name.replace("embedding", "rows") for name in CACHE_FILES)


def small_sequence_cache(folder: Path) -> Path:
    """A finished cache of words of one shard with two clips, as bytes."""
    make_sequence_cache(folder / "cache", [2], "words", 4, dtype="uint8", words=5)
    return folder / "cache"


def cache_files(cache: Path, names: tuple[str, ...] = CACHE_FILES) -> list[bytes]:
    """Every file of a cache as an input, with the number of its place before it."""
    return [bytes([n]) + (cache / name).read_bytes() for n, name in enumerate(names)]
