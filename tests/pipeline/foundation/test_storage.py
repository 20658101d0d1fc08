"""Locations: what is refused, what is tried again; a real S3 API; tars in the hub."""

import io
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
import zarr

from pipeline.cache import verification
from pipeline.cache.identity import KINDS
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.staging import staged
from pipeline.cache.store import TeacherCache
from pipeline.foundation import storage
from pipeline.foundation.errors import NotThere, SpeechkdError, Unreachable
from pipeline.foundation.folder import Folder
from pipeline.foundation.storage import (
    RemoteFile,
    files_below,
    filesystem,
    open_stream,
    retried,
    scheme_of,
)
from pipeline.shards.manifest import read_manifest
from stages.cache import VerifySettings, verify
from stages.distill import DistillSettings
from stages.distill import run as distill
from stages.extract_features import FeatureSettings
from stages.extract_features import run as run_features
from stages.extract_teacher import ExtractSettings, run
from tests.helpers.caches import (
    make_sequence_cache,
    samples_of,
    shard_result,
    vectors_of,
    write_sequences,
)
from tests.helpers.hub import Hub
from tests.helpers.processes import quick_processes
from tests.helpers.s3 import close_all
from tests.helpers.tars import write_corpus

BUCKET = "speech"


@pytest.mark.parametrize(
    "location",
    [
        "pipe:cat /etc/passwd",
        "pipe://cat",
        "simplecache::s3://b/k",
        "reference://x",
        "git://x",
        "x://y",
        "data://text",
        "python://os",
    ],
)
def test_locations_that_are_no_plain_bytes_are_refused(location):
    for use in (scheme_of, Folder, read_manifest):
        with pytest.raises(SpeechkdError, match=r"refused|unknown scheme"):
            use(location)
    with pytest.raises(SpeechkdError), open_stream(location):
        pass


def test_a_manifest_with_a_command_for_a_url_runs_nothing(tmp_path):
    proof = tmp_path / "proof"
    line = f'{{"url": "pipe:touch {proof}", "samples": 1, "bytes": 1, "sha256": "{"0" * 64}"}}\n'
    (tmp_path / "manifest.jsonl").write_text(line)
    with pytest.raises(SpeechkdError):
        extract(tmp_path / "manifest.jsonl", tmp_path / "cache")
    assert not proof.exists()


def test_plain_paths_and_file_urls_are_the_same_place(tmp_path):
    Folder(tmp_path).write("a/b.txt", b"content")
    assert Folder(f"file://{tmp_path}").read("a/b.txt") == b"content"
    with open_stream(f"file://{tmp_path}/a/b.txt") as file:
        assert file.read(100) == b"content"


def test_only_old_leftovers_of_killed_processes_are_removed(tmp_path):
    names = [".a.json.x.partial", "embedding/c/0/0.1f.partial", "young.partial", "whole.json"]
    for name in names:
        Folder(tmp_path).write(name, b"half")
        if name != "young.partial":
            os.utime(tmp_path / name, (1, 1))
    Folder(tmp_path).remove_leftovers()
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"young.partial", "whole.json"}


def test_a_missing_package_is_named(monkeypatch):
    import fsspec

    def missing(location, **_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(SpeechkdError, match=r"s3:// needs another package: Install s3fs"):
        Folder("s3://bucket/cache")


def test_passing_errors_are_tried_again_with_growing_pauses(monkeypatch):
    pauses, calls = [], []
    monkeypatch.setattr(storage.time, "sleep", pauses.append)

    def flaky():
        calls.append(1)
        if len(calls) < 4:
            raise ConnectionResetError("reset by peer")
        return "done"

    assert retried(flaky, "s3://b/k") == "done"
    assert pauses == [0.5, 1.0, 2.0]


def test_lasting_errors_are_not_tried_again_and_passing_ones_not_for_ever(monkeypatch):
    pauses = []
    monkeypatch.setattr(storage.time, "sleep", pauses.append)

    def absent():
        raise FileNotFoundError("no such key")

    def down():
        raise TimeoutError("no answer")

    with pytest.raises(FileNotFoundError):
        retried(absent, "s3://b/k")
    assert pauses == []
    with pytest.raises(SpeechkdError, match=r"s3://b/k: TimeoutError: no answer; tried 5 times"):
        retried(down, "s3://b/k")
    assert len(pauses) == 4


def test_without_credentials_there_is_no_second_try(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waited"))

    class NoCredentialsError(Exception):  # botocore's, by name
        pass

    def nobody():
        raise NoCredentialsError("Unable to locate credentials")

    with pytest.raises(Unreachable, match=r"s3://b/k: .*No credentials were found.*AWS_PROFILE"):
        retried(nobody, "s3://b/k")


def test_a_stream_goes_on_where_it_broke(monkeypatch):
    """Blocks that fail or come short are fetched again; no byte is lost or doubled."""
    import fsspec

    content = np.random.default_rng(0).bytes(100_000)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/tars/a.tar", content)
    monkeypatch.setattr(storage, "BLOCK_BYTES", 7_000)
    monkeypatch.setattr(storage.time, "sleep", [].append)
    fetch, calls = type(filesystem).cat_file, []

    def unreliable(self, path, start=None, end=None, **options):
        calls.append(start)
        if len(calls) % 3 == 1:
            raise ConnectionResetError("reset by peer")
        block = fetch(self, path, start=start, end=end, **options)
        return block[:-1] if len(calls) % 3 == 2 else block

    monkeypatch.setattr(type(filesystem), "cat_file", unreliable)
    with open_stream("memory://tars/a.tar") as file:
        read = b"".join(iter(lambda: file.read(513), b""))
    assert read == content
    assert len(calls) > 3 * (100_000 // 7_000)


# --- a real S3 API ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """Moto's server as an S3, with tars and manifest in a bucket; yields fsspec's view of it."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    patch = pytest.MonkeyPatch()
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    close_all()
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir(BUCKET)
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [3, 2, 4])
    for path in folder.iterdir():
        filesystem.put_file(str(path), f"{BUCKET}/corpus/{path.name}")
    yield filesystem, folder
    close_all()
    server.stop()
    patch.undo()


def extract(manifest, cache, **changes) -> None:
    options = {"encoder": "dummy", "workers": 0, "devices": "cpu", **changes}
    run(ExtractSettings(manifest=str(manifest), cache=str(cache), **options))


def frames(manifest, cache) -> None:
    options = {"features": "whisper-mel", "workers": 0, "devices": "cpu"}
    run_features(FeatureSettings(manifest=str(manifest), cache=str(cache), **options))


def objects(filesystem, folder: str) -> dict[str, bytes]:
    found = filesystem.find(folder)
    return {name.removeprefix(folder): filesystem.cat_file(name) for name in found}


MANIFEST = f"s3://{BUCKET}/corpus/manifest.jsonl"


def test_tars_and_cache_in_s3_give_what_a_disk_gives(s3, tmp_path):
    _, folder = s3
    extract(folder / "manifest.jsonl", tmp_path / "cache")
    extract(MANIFEST, f"s3://{BUCKET}/cache")
    remote = TeacherCache.open(f"s3://{BUCKET}/cache")
    local = TeacherCache.open(tmp_path / "cache")
    assert remote.digest() == local.digest()
    assert np.array_equal(vectors_of(remote), vectors_of(local))
    assert samples_of(remote).keys == samples_of(local).keys
    verify(VerifySettings(cache=f"s3://{BUCKET}/cache"))
    group = zarr.open_group(f"s3://{BUCKET}/cache", mode="r")
    assert np.isfinite(group["embedding"][:3]).all()


def test_a_student_is_taught_from_a_cache_in_s3(s3, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    extract(MANIFEST, f"s3://{BUCKET}/taught")
    settings = {"kd": ["crd"], "student": "bert-tiny", "batch": 4, "max_steps": 2, "device": "cpu"}
    for name, making in (("first", 1), ("second", 0)):
        out = tmp_path / name
        distill(DistillSettings(cache=f"s3://{BUCKET}/taught", out=out, **settings))
        assert (out / "student" / "model.safetensors").is_file()
        assert capsys.readouterr().err.count("putting vectors in one piece") == making
    assert list((tmp_path / "home" / "speechkd" / "prepared").glob("vectors-*"))


def test_a_second_run_in_s3_does_nothing(s3, capsys):
    extract(MANIFEST, f"s3://{BUCKET}/twice")
    before = s3[0].find(f"{BUCKET}/twice", detail=True)
    times = {name: info["LastModified"] for name, info in before.items()}
    extract(MANIFEST, f"s3://{BUCKET}/twice")
    assert "nothing to do" in capsys.readouterr().err
    s3[0].invalidate_cache()
    after = s3[0].find(f"{BUCKET}/twice", detail=True)
    assert {name: info["LastModified"] for name, info in after.items()} == times


def test_as_few_requests_as_there_are_receipts_to_read(s3, monkeypatch):
    """Counting asks for a listing alone; nothing is read twice, nor what is another's."""
    import s3fs

    location = f"s3://{BUCKET}/counted"
    extract(MANIFEST, location)
    cache, call, requests = TeacherCache.open(location), s3fs.S3FileSystem._call_s3, Counter()

    async def counted(filesystem, method, *arguments, **options):
        requests[method] += 1
        return await call(filesystem, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)

    def asked(read):
        requests.clear()
        read()
        return dict(requests)

    listing, each = {"list_objects_v2": 1}, {"get_object": 3}
    assert asked(cache.finished) == listing
    assert asked(cache.receipts) == {**listing, **each}
    assert asked(cache.unfinished) == listing
    assert asked(cache.statistics) == {**listing, **each}
    assert asked(lambda: cache.receipts([1])) == {"get_object": 1}
    # of each shard a storage object, the samples, and the receipt again for its statistics
    verified = {"list_objects_v2": 2, "get_object": 3 * 3}
    assert asked(lambda: list(verification.verify(cache, tars=False))) == verified
    assert all(0 <= time.time() - moment < 600 for moment in cache.finished().values())


def test_frames_in_s3_are_those_of_a_disk_and_any_clips_are_read(s3, tmp_path):
    _, folder = s3
    location = f"s3://{BUCKET}/frames"
    frames(folder / "manifest.jsonl", tmp_path / "cache")
    frames(MANIFEST, location)
    remote = SequenceReader(TeacherCache.open(location, kinds=KINDS))
    local = SequenceReader(TeacherCache.open(tmp_path / "cache", kinds=KINDS))
    assert remote.cache.digest() == local.cache.digest()
    for clip_B in ([8, 0, 3, 3], [], [5]):
        np.testing.assert_array_equal(remote.values(clip_B), local.values(clip_B))
    verify(VerifySettings(cache=location))
    copy = staged(remote.cache, tmp_path / "disk")
    np.testing.assert_array_equal(SequenceReader(copy).values([8, 0]), local.values([8, 0]))
    rows = zarr.open_group(location, mode="r")["rows"]
    assert np.isfinite(rows[:20]).all()


def test_a_shorter_shard_leaves_no_object_in_s3(s3, monkeypatch):
    location = f"s3://{BUCKET}/shorter"
    make_sequence_cache(location, [9])
    cache = TeacherCache.open(location, kinds=KINDS)
    assert cache.rows > 64  # more than one object
    write_sequences(cache, 0, shard_result(9, 1, 0, refused=tuple(range(1, 9))))
    assert cache.stored_objects("rows", again=True) == {0}
    found = verification.verify(cache, tars=False)
    assert not [e for e in found if "storage object" in str(e)]


@pytest.fixture(scope="module")
def quick(s3):
    """Processes that are up in a moment and find this S3."""
    with quick_processes(__name__, "s3fs", "aiobotocore.session"):
        yield


def killed_at_put(make, cache, puts):
    """The body of a process that makes a cache and is killed before its n-th object is put."""
    import s3fs

    put, count = s3fs.S3FileSystem._pipe_file, itertools.count(1)

    async def counted(*args, **kwargs):
        if next(count) == puts:
            os.kill(os.getpid(), signal.SIGKILL)
        return await put(*args, **kwargs)

    s3fs.S3FileSystem._pipe_file = counted
    torch.set_num_threads(1)
    make(MANIFEST, cache)


@pytest.mark.parametrize(
    ("command", "puts"),
    [
        ("extract-teacher", 9),
        # nothing is there; half created; the first shard done; the second's rows; its samples too
        *(
            pytest.param(command, n, marks=pytest.mark.slow)
            for command in ("extract-teacher", "extract-features")
            for n in (1, 3, 8, 9, 10)
            if (command, n) != ("extract-teacher", 9)
        ),
    ],
)
def test_killed_at_any_put_a_cache_in_s3_ends_the_same(s3, quick, command, puts):
    filesystem, _ = s3
    make = {"extract-teacher": extract, "extract-features": frames}[command]
    reference, location = f"{BUCKET}/reference-{command}", f"{BUCKET}/killed-{command}-{puts}"
    if not filesystem.exists(reference):
        make(MANIFEST, f"s3://{reference}")
    killed = multiprocessing.get_context("forkserver").Process(
        target=killed_at_put, args=(make, f"s3://{location}", puts)
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    make(MANIFEST, f"s3://{location}")
    filesystem.invalidate_cache()
    assert objects(filesystem, location) == objects(filesystem, reference)


# --- the hub ---------------------------------------------------------------------------------


def test_tars_in_a_data_set_of_the_hub_give_what_a_disk_gives(tmp_path):
    manifest = write_corpus(tmp_path / "corpus", [3, 2, 4])
    extract(manifest, tmp_path / "here")
    command = ["extract-teacher", "hf://datasets/me/speech/manifest.jsonl", "--encoder=dummy"]
    with Hub(manifest.parent) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "stages.cli", *command, f"--cache={tmp_path / 'there'}"],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    there = TeacherCache.open(tmp_path / "there")
    assert there.written == 9
    assert there.digest() == TeacherCache.open(tmp_path / "here").digest()


def test_parts_of_a_remote_file_are_read_in_any_order_and_folders_are_listed():
    files, _ = filesystem("memory://parts/a/b.bin")
    content = bytes(range(256)) * 100
    for name in ("a/b.bin", "c.bin", "a/.hidden"):
        with files.open(f"/parts/{name}", "wb") as file:
            file.write(content)
    assert files_below("memory://parts") == ["a/b.bin", "c.bin"]
    with RemoteFile("memory://parts/a/b.bin") as file:
        assert file.seek(-10, io.SEEK_END) == len(content) - 10
        assert file.read() == content[-10:]
        assert file.read(5) == b""
        file.seek(300)
        assert file.read(7) == content[300:307]
        assert file.tell() == 307
        assert io.BufferedReader(file).read(3) == content[307:310]
    with pytest.raises(NotThere):
        RemoteFile("memory://parts/none")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").touch()
    assert files_below(str(tmp_path)) == ["a/b.txt"]
    with pytest.raises(NotThere, match="no such folder"):
        files_below(str(tmp_path / "none"))
