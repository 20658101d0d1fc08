"""Small inputs that claim, or unfold to, more than a machine has; and what each may cost.

    python -m tests.robustness.bombs [NAME ...]

prints a line for each: what came of it, CPU seconds, and what the peak of the memory grew by. Every
bomb goes off in a process of its own, whose address space is limited. It is forked from one that
has loaded what the bomb is given to.
"""

import gzip
import importlib
import io
import itertools
import json
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.helpers.caches import vectors_of

GIGABYTE = 2**30
ADDRESS_SPACE = 16 * GIGABYTE
SECONDS_AT_MOST = 600
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Bomb:
    """An input, and what it may cost.

    Attributes:
        make: writes it into a folder.
        read: reads it as the commands do; returns what came of it.
        seconds: CPU time it may take; the clock's depends on what else the machine does.
        megabytes: it may need this much beyond what is loaded anyway.
        imports: module that is loaded before measuring.
        reads_apart: whether another process reads it, which then starts before measuring.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], str]
    seconds: float
    megabytes: int
    imports: str
    reads_apart: bool = False


def _decode(folder: Path) -> str:
    from pipeline.shards.decoding import decode
    from pipeline.shards.refusals import RefusedError

    try:
        return f"{len(decode((folder / 'a').read_bytes())):,} samples"
    except RefusedError as error:
        return error.reason


def _read_clip(folder: Path) -> str:
    from pipeline.shards.decoding import read_clip
    from pipeline.shards.refusals import RefusedError

    try:
        return f"{len(read_clip(folder / 'a')):,} samples"
    except RefusedError as error:
        return error.reason


def _wav_of_a_year(folder: Path) -> None:
    head = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16, 16, 1, 8)
    (folder / "a").write_bytes(head + b"data" + struct.pack("<I", 16 * 86_400 * 365) + b"\x80" * 99)


def _flac_of_a_year(folder: Path) -> None:
    from tests.helpers.tars import audio

    content = bytearray(audio(4_000))
    content[21:26] = bytes([content[21] | 0x0F, *b"\xff\xff\xff\xff"])  # 36 bits: samples in all
    (folder / "a").write_bytes(content)


def _silence(kind: str, minutes: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import numpy as np
        import soundfile

        subtype = {"OGG": "OPUS"}.get(kind)
        with soundfile.SoundFile(folder / "a", "w", 16_000, 1, subtype, format=kind) as file:
            for _ in range(minutes):
                file.write(np.zeros(60 * 16_000, np.float32))

    return make


def _channels(folder: Path) -> None:
    count, seconds = 1024, 7
    head = struct.pack("<IHHIIHH", 16, 1, count, 16_000, 16_000 * count, count, 8)
    size = count * 16_000 * seconds
    with (folder / "a").open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + head)
        file.write(b"data" + struct.pack("<I", size))
        file.truncate(size + 44)


def _empty_chunks(folder: Path) -> None:
    with (folder / "a").open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\x7fWAVE")
        file.truncate(GIGABYTE)


def _sparse_text(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(GIGABYTE)

    return make


def _manifest(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "manifest.jsonl").write_text(text)

    return make


def _line(**changes: object) -> str:
    return json.dumps({"url": "a.tar", "samples": 1, "bytes": 1, "sha256": "0" * 64, **changes})


def _read_manifest(folder: Path) -> str:
    from pipeline.shards.manifest import read_manifest

    return f"{len(read_manifest(folder / 'manifest.jsonl')):,} shards"


def _extract(folder: Path) -> str:
    from stages.extract_teacher import ExtractSettings, run

    manifest = str(folder / "manifest.jsonl")
    run(ExtractSettings(manifest=manifest, cache=str(folder / "c"), encoder="dummy", devices="cpu"))
    return "read"


def _read_table(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        from pipeline.foundation.tables import column_names, text_rows

        column_names(folder / name)
        return f"{sum(1 for _ in text_rows(folder / name)):,} rows"

    return read


def _read_mosei(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        from pipeline.tasks.mosei.reading import read_mosei

        return f"{len(read_mosei(folder / name, allow_pickle=True).clips):,} clips"

    return read


class _Headers(io.RawIOBase):
    """A tar of empty members that is made while it is read."""

    def __init__(self, members: int) -> None:
        self._left, self._members = b"", iter(range(members))

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size and (number := next(self._members, None)) is not None:
            self._left += tarfile.TarInfo(f"{number}.flac").tobuf(tarfile.USTAR_FORMAT)
        content, self._left = self._left[:size], self._left[size:]
        return content


def _empty_members(members: int) -> Callable[[Path], str]:
    def read(_: Path) -> str:
        from pipeline.shards.tar import TarReader

        return f"{sum(1 for _ in TarReader(_Headers(members))):,} samples"

    return read


def _tar(*headers: tarfile.TarInfo, content: bytes = b"") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        blocks = (header.tobuf(tarfile.GNU_FORMAT) for header in headers)
        (folder / "a").write_bytes(b"".join(blocks) + content + b"\0" * 1024)

    return make


def _read_tar(folder: Path) -> str:
    from pipeline.shards.tar import TarReader

    with (folder / "a").open("rb") as file:
        reader = TarReader(file)
        samples = list(reader)
    too_large = sum(len(sample.too_large) for sample in samples)
    return f"{len(samples)} samples, {too_large} too large; {reader.damage or 'whole'}"


def _header(size: int, kind: bytes = tarfile.REGTYPE, name: str = "a.flac") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    return header


def _gigabyte_member(folder: Path) -> None:
    with (folder / "a").open("wb") as file:
        file.write(_header(GIGABYTE).tobuf(tarfile.GNU_FORMAT))
        file.truncate(GIGABYTE + 2048)


def _many_members_of_one_key(folder: Path) -> None:
    with (folder / "a").open("wb") as file:
        for number in range(16):
            file.write(_header(2**26, name=f"a.{number}").tobuf(tarfile.GNU_FORMAT))
            file.truncate(file.tell() + 2**26)
            file.seek(0, 2)


def _json_bomb(folder: Path) -> None:
    from tests.helpers.tars import tar_bytes

    (folder / "a").write_bytes(tar_bytes([("a.flac", b""), ("a.json", b"[" * 900_000)]))


def _read_tar_sample(folder: Path) -> str:
    from pipeline.shards.reading import read_shard
    from pipeline.shards.refusals import Refusal
    from tests.helpers.tars import line

    content = (folder / "a").read_bytes()
    items = list(read_shard(io.BytesIO(content), line(content, 1), "a"))
    assert isinstance(items[0], Refusal)
    return f"{items[0].reason}: {items[0].detail}"


def _cache(**metadata: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from tests.helpers.caches import make_cache

        make_cache(folder / "c", [2])
        path = folder / "c" / "embedding" / "zarr.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **metadata}))

    return make


def _wide_cache(folder: Path) -> None:
    from tests.helpers.caches import make_cache

    make_cache(folder / "c", [2])
    path = folder / "c" / "zarr.json"
    path.write_text(path.read_text().replace('"d_model": 8', '"d_model": 1000000000000'))


def _open_cache(folder: Path) -> str:
    from pipeline.cache.store import TeacherCache

    cache = TeacherCache.open(folder / "c")
    return f"{vectors_of(cache).shape}, {cache.statistics().count}"


def _pickle(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "a.pkl").write_bytes(content) and None


def _laughs() -> bytes:
    nested = b"(" + b"K\x01" * 10 + b"t\x94" + b"(" + b"h\x00" * 10 + b"t\x94"
    for level in range(1, 30):
        nested += b"(" + (b"h" + bytes([level])) * 10 + b"t\x94"
    return b"\x80\x04" + nested + b"."


def _as_key() -> bytes:
    return b"\x80\x04}" + _laughs()[2:-1] + b"K\x01s."


def _wide_array() -> bytes:
    import numpy as np

    small = pickle.dumps(np.array(["a"], object), protocol=2)
    return small.replace(b"K\x01\x85", b"\x8a\x05" + (2**34).to_bytes(5, "little") + b"\x85", 1)


def _csd(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "CMU_MOSEI_Labels.csd", "w") as file:
        group = file.create_group("r/data/v")
        group.create_dataset("features", shape=(10**15, 7), chunks=(1000, 7), dtype="f8")
        group.create_dataset("intervals", shape=(10**15, 2), chunks=(1000, 2), dtype="f8")
    (folder / "CMU_MOSEI_TimestampedWords.csd").write_bytes(
        (folder / "CMU_MOSEI_Labels.csd").read_bytes()
    )


def _parquet_of_a_dictionary(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    index = pyarrow.array([0] * 100_000, pyarrow.int32())
    texts = pyarrow.DictionaryArray.from_arrays(index, pyarrow.array(["x" * 100_000]))
    parquet.write_table(pyarrow.table({"text": texts}), folder / "a.parquet")


def _parquet_of_one_text(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    texts = pyarrow.array(["x" * 10_000] * 200_000)
    parquet.write_table(pyarrow.table({"text": texts}), folder / "a.parquet")


def _model(**changes: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from tests.helpers.encoders import save_encoder

        save_encoder(folder / "m", ["a b c"])
        path = folder / "m" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return make


def _tokenizer(**parts: object) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from tests.helpers.encoders import save_encoder

        save_encoder(folder / "m", ["a b c"])
        path = folder / "m" / "tokenizer.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))

    return make


def _load_model(folder: Path) -> str:
    from pipeline.finetuning.inputs import tokenize
    from pipeline.models.student import load_encoder

    _, tokenizer = load_encoder(str(folder / "m"))
    return f"{len(tokenize(tokenizer, ['a' * 5000 + 'b'], 64).ids)} texts"


_GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
_SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
_AUDIO, _TAR, _MOSEI = (
    "pipeline.shards.reading",
    "pipeline.shards.tar",
    "pipeline.tasks.mosei.reading",
)
_MODEL, _CACHE = "pipeline.finetuning.trainer", "pipeline.cache.store"


def _times(suffix: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / f"talk{suffix}").write_bytes(content)

    return make


def _read_times(folder: Path) -> str:
    from pipeline.shards.recordings import Entry
    from pipeline.shards.timed import Cutting, Notes, TimedFolder

    found = list(TimedFolder(Cutting(), Notes()).entries("talk", folder / "talk.wav") or ())
    entries = sum(isinstance(entry, Entry) for entry in found)
    if entries:
        return f"{entries:,} entries"
    return found[0].reason if found else "no times"


def _laughing_eaf() -> bytes:
    names = "abcdefghij"
    entities = "".join(
        f'<!ENTITY {one} "{f"&{other};" * 10}">' for other, one in itertools.pairwise(names)
    )
    return f'<!DOCTYPE x [<!ENTITY a "ha">{entities}]><ANNOTATION_DOCUMENT>&j;'.encode()


def _long_whisper() -> bytes:
    words = [{"word": "a", "start": i / 9, "end": i / 9 + 0.05} for i in range(300_000)]
    text = " ".join("a" for _ in words)
    segment = {"start": 0, "end": 300_000 / 9, "text": text, "words": words}
    return json.dumps({"segments": [segment]}).encode()


def _gzipped_gigabytes(folder: Path) -> None:
    member = gzip.compress(bytes(2**20), compresslevel=1)
    (folder / "a.csv.gz").write_bytes(member * (3 * 2**10))  # a file of gzip may have several


def _parquet_of_audio(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    audio = [{"bytes": bytes(2**20), "path": ""}] * 400
    table = pyarrow.table({"audio": audio, "text": ["x"] * 400})
    parquet.write_table(table, folder / "t.parquet", compression="zstd", row_group_size=400)


def _read_audio_table(folder: Path) -> str:
    from pipeline.shards.arrow import find_files
    from pipeline.shards.parts import Make, Plan, entries_of
    from pipeline.shards.survey import survey

    plan = Plan({"path": "audio", "text": "text"}, 1000, 15)
    (part,) = survey(find_files(str(folder / "t.parquet")), plan, 0, lambda _: None)
    reasons = Counter(
        str(getattr(Make(15)(clip), "reason", "read")) for clip in entries_of(part, plan, 0)
    )
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())


_TIMED = "pipeline.shards.timed"
BOMBS = {
    "an ELAN file of entities in entities": Bomb(
        _times(".eaf", _laughing_eaf()), _read_times, 5, 50, _TIMED
    ),
    "a TextGrid that claims 10^9 intervals": Bomb(
        _times(
            ".TextGrid",
            b'"ooTextFile"\n"TextGrid"\n0 9\n<exists>\n1\n"IntervalTier"\n"a"\n0 9\n999999999\n'
            + b'0 1 ""\n' * 10**6,
        ),
        *(_read_times, 20, 600, _TIMED),
    ),
    "a TextGrid of 40 MB of quotation marks": Bomb(
        _times(".TextGrid", b'"' * (40 * 2**20)), _read_times, 20, 300, _TIMED
    ),
    "a WebVTT of 40 MB of tags that never end": Bomb(
        _times(".vtt", b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + b"<a" * (20 * 2**20)),
        *(_read_times, 30, 700, _TIMED),
    ),
    "labels of 40 MB of tabs": Bomb(
        _times(".txt", b"1\t2\ta\n1" + b"\t" * (40 * 2**20)), _read_times, 20, 300, _TIMED
    ),
    "Whisper's JSON of one segment of 9 h": Bomb(
        _times(".json", _long_whisper()), _read_times, 60, 900, _TIMED
    ),
    "Whisper's JSON of 20 MB of brackets": Bomb(
        _times(".json", b"[" + b"[]," * (7 * 2**20) + b"[]]"), _read_times, 10, 850, _TIMED
    ),
    "a CSV of 3 GB in one line, in a gzip of some MB": Bomb(
        _gzipped_gigabytes, _read_table("a.csv.gz"), 10, 200, "pipeline.foundation.tables"
    ),
    "a Parquet of 400 MB of silence in some kB": Bomb(
        _parquet_of_audio, _read_audio_table, 30, 900, "pipeline.shards.parts", reads_apart=True
    ),
    "a WAV whose header claims a year": Bomb(_wav_of_a_year, _decode, 5, 50, _AUDIO),
    "a FLAC whose header claims 49 days": Bomb(_flac_of_a_year, _decode, 5, 50, _AUDIO),
    "2 h of constant FLAC as a sample": Bomb(_silence("FLAC", 120), _decode, 5, 50, _AUDIO),
    "2 h of constant FLAC to be sharded": Bomb(
        _silence("FLAC", 120), _read_clip, 5, 50, "pipeline.shards.decoding"
    ),
    "20 min of Opus silence": Bomb(_silence("OGG", 20), _decode, 5, 50, _AUDIO),
    "20 min of MP3 silence": Bomb(_silence("MP3", 20), _decode, 5, 50, _AUDIO),
    "a WAV of 1,024 channels, 115 MB": Bomb(_channels, _decode, 20, 300, _AUDIO),
    "a WAV of 1 GB of empty chunks": Bomb(
        _empty_chunks, _read_clip, 5, 50, "pipeline.shards.decoding"
    ),
    "a manifest of 1 GB": Bomb(
        _sparse_text("manifest.jsonl"), _read_manifest, 5, 50, "pipeline.shards.manifest"
    ),
    "a manifest with nested brackets": Bomb(
        _manifest("[" * 1_000_000), _read_manifest, 5, 100, "pipeline.shards.manifest"
    ),
    "a manifest of {0..999999999}": Bomb(
        _manifest(_line(url="s-{0..999999999}/{a,b}{a,b}{a,b}**.tar")),
        _extract,
        60,
        1000,
        "pipeline.extraction.loop",
    ),
    "a manifest that claims 10^15 samples": Bomb(
        _manifest(_line(samples=10**15, bytes=10**18)),
        _read_manifest,
        5,
        50,
        "pipeline.shards.manifest",
    ),
    "a CSV of 1 GB in one line": Bomb(
        _sparse_text("a.csv"), _read_table("a.csv"), 10, 100, "pipeline.foundation.tables"
    ),
    "JSON lines of 1 GB in one line": Bomb(
        _sparse_text("a.jsonl"), _read_table("a.jsonl"), 10, 100, "pipeline.foundation.tables"
    ),
    "a label table of 1 GB": Bomb(
        _sparse_text("label.csv"), _read_mosei("label.csv"), 5, 50, _MOSEI
    ),
    "a tar of 50,000 empty members": Bomb(lambda _: None, _empty_members(50_000), 20, 50, _TAR),
    "a tar of 1,000,000 empty members": Bomb(
        lambda _: None, _empty_members(1_000_000), 300, 50, _TAR
    ),
    "a tar with a member of 1 GB": Bomb(_gigabyte_member, _read_tar, 30, 50, _TAR),
    "16 members of 64 MB under one key": Bomb(_many_members_of_one_key, _read_tar, 30, 300, _TAR),
    "a tar whose member claims 8 EB": Bomb(_tar(_header(2**62)), _read_tar, 5, 50, _TAR),
    "a tar with a name of 64 MB": Bomb(
        _tar(_header(2**26, tarfile.GNUTYPE_LONGNAME), content=b"x" * 2**26), _read_tar, 5, 50, _TAR
    ),
    "a tar with 100,000 names for one member": Bomb(
        _tar(_header(0), *[_header(0, tarfile.GNUTYPE_LONGNAME)] * 100_000), _read_tar, 5, 100, _TAR
    ),
    "a sample's .json with 900,000 brackets": Bomb(_json_bomb, _read_tar_sample, 5, 100, _AUDIO),
    "a Zarr array that claims 10^15 rows": Bomb(
        _cache(shape=[10**15, 8]), _open_cache, 10, 100, _CACHE
    ),
    "a Zarr array in objects of 10^12 rows": Bomb(
        _cache(
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**12, 8]}},
        ),
        _open_cache,
        10,
        100,
        _CACHE,
    ),
    "a cache that claims 10^12 dimensions": Bomb(_wide_cache, _open_cache, 10, 100, _CACHE),
    "a pickle with memo entry 2^32 - 1": Bomb(
        _pickle(b"\x80\x04K\x01r\xff\xff\xff\xff."), _read_mosei("a.pkl"), 5, 50, _MOSEI
    ),
    "a pickle that claims 64 GB of bytes": Bomb(
        _pickle(b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"."),
        _read_mosei("a.pkl"),
        5,
        50,
        _MOSEI,
    ),
    "a pickle of tuples in tuples, 10^30 items": Bomb(
        _pickle(_laughs()), _read_mosei("a.pkl"), 5, 50, _MOSEI
    ),
    "the same as a dictionary's key": Bomb(_pickle(_as_key()), _read_mosei("a.pkl"), 5, 50, _MOSEI),
    "a pickled array of 2^34 objects": Bomb(
        _pickle(_wide_array()), _read_mosei("a.pkl"), 5, 50, _MOSEI
    ),
    "a .csd that claims 10^15 rows": Bomb(
        _csd, _read_mosei("CMU_MOSEI_Labels.csd"), 5, 100, _MOSEI
    ),
    "a Parquet of 10 GB in some kB, by a dictionary": Bomb(
        _parquet_of_a_dictionary, _read_mosei("a.parquet"), 10, 1000, _MOSEI, reads_apart=True
    ),
    "a Parquet of 2 GB in some kB, by its encoding": Bomb(
        _parquet_of_one_text, _read_mosei("a.parquet"), 30, 1500, _MOSEI, reads_apart=True
    ),
    "a model of 10^12 dimensions": Bomb(_model(hidden_size=10**12), _load_model, 20, 200, _MODEL),
    "a model of 1,000 layers, weights of 2": Bomb(
        _model(num_hidden_layers=1000, hidden_size=8192), _load_model, 60, 300, _MODEL
    ),
    "a tokenizer that makes a text 10^9 times longer": Bomb(
        _tokenizer(normalizer={"type": "Sequence", "normalizers": [_GROWING] * 9}),
        _load_model,
        20,
        200,
        _MODEL,
    ),
    "a tokenizer whose expression takes for ever": Bomb(
        _tokenizer(pre_tokenizer=_SLOW), _load_model, 30, 200, _MODEL
    ),
}


@dataclass(frozen=True)
class Cost:
    """What came of a bomb, and what it took."""

    outcome: str
    seconds: float
    megabytes: float


class Site:
    """Where bombs go off: a process that forks one for each; a context."""

    def __enter__(self) -> "Site":
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.bombs", "--serve"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # what has been read is told from what has not by select
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def cost(self, name: str) -> Cost:
        """Set a bomb off.

        Raises:
            RuntimeError: it ended its process, or did not end.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{name}\n".encode())
        told = b""
        if select.select([self._process.stdout], [], [], SECONDS_AT_MOST)[0]:
            told = self._process.stdout.readline().strip()
        if not told.startswith(b"{"):
            self._errors.seek(0)
            raise RuntimeError(
                f"{name}: {told.decode() or 'no end'}\n{self._errors.read()[-3000:]}"
            )
        return Cost(**json.loads(told))


def _serve() -> None:
    """The body of the process."""
    tell = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        name = line.rstrip("\n")
        importlib.import_module(BOMBS[name].imports)
        if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
            raise SystemExit("an import has started a thread: forking is not safe")
        pid = os.fork()
        if pid == 0:
            try:
                tell.write(json.dumps(asdict(_alone(BOMBS[name]))) + "\n")
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            tell.write(f"ended with status {status}\n")


def _alone(bomb: Bomb) -> Cost:
    from pipeline.foundation.errors import SpeechkdError
    from pipeline.foundation.guarded import guarded_call

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bomb.make(folder)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
        if bomb.reads_apart:
            guarded_call("pyarrow", exec, "from pyarrow import parquet")
        for process in _processes():
            Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak begins anew
        before, started = _peak_megabytes(), _cpu_seconds()
        try:
            outcome = bomb.read(folder)
        except SpeechkdError as error:
            outcome = f"refused: {str(error).replace(temporary, '…')}"
        return Cost(outcome, _cpu_seconds() - started, _peak_megabytes() - before)


def _processes() -> list[int]:
    """This process, and those that read for it."""
    from pipeline.foundation import guarded

    return [os.getpid(), *(waiting.process.pid for waiting in guarded._idle)]


def _peak_megabytes() -> float:
    statuses = [Path(f"/proc/{process}/status").read_text() for process in _processes()]
    return sum(int(status.partition("VmHWM:")[2].split()[0]) for status in statuses) / 1024


def _cpu_seconds() -> float:
    """User and system time, fields 14 and 15 of proc(5)'s stat."""
    stats = [Path(f"/proc/{process}/stat").read_text() for process in _processes()]
    ticks = sum(int(tick) for stat in stats for tick in stat.rpartition(")")[2].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print what each bomb costs."""
    if sys.argv[1:2] == ["--serve"]:
        _serve()
        return
    kinds: Counter[str] = Counter()
    with Site() as site:
        for name in sys.argv[1:] or BOMBS:
            found = site.cost(name)
            kinds["refused" if "refused" in found.outcome else "counted"] += 1
            figures = f"{found.seconds:.2f} | {found.megabytes:.0f}"
            print(f"| {name} | {found.outcome[:150]} | {figures} |")
    print(dict(kinds))


if __name__ == "__main__":
    main()
