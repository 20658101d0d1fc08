"""Stage one against an S3 API that fails in every way that one can."""

import gc
import itertools
import sys

import fsspec
import pytest

from pipeline.foundation import storage
from tests.faults.flaky_storage import FlakyStorage
from tests.faults.sweep import REMEDY
from tests.helpers.s3 import close_all
from tests.helpers.tars import write_corpus

BUCKET = "faults"
PASSING = [
    "reset",
    *(pytest.param(how, marks=pytest.mark.slow) for how in (429, 500, 503, "truncated")),
]
FAST = [(403, "PUT"), (500, "GET")]
LASTING = [
    *FAST,
    *(pytest.param(how, method, marks=pytest.mark.slow)
      for how in (401, 403, 404, 409, 412, 429, 500, 503, "reset", "silent", "truncated", "flipped")
      for method in ("GET", "PUT")
      if (how, method) not in [*FAST, ("truncated", "PUT"), ("flipped", "PUT")]),
]  # fmt: skip


@pytest.fixture(scope="module")
def flaky(tmp_path_factory):
    """A corpus in a bucket, behind a proxy that fails on demand, and what a run must give."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    patch = pytest.MonkeyPatch()
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    proxy = FlakyStorage(*server.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)
    patch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.001)
    # what the libraries try by themselves before our own attempts, and how patiently
    patience = {"retries": 2, "seconds": 60}
    make = s3fs.S3FileSystem.__init__

    def impatient(self, *arguments, **named):
        settings = {
            "read_timeout": patience["seconds"],
            "connect_timeout": patience["seconds"],
            "retries": {"max_attempts": patience["retries"]},
        }
        make(self, *arguments, **{**named, "config_kwargs": settings})
        self.retries = 1 + patience["retries"]

    patch.setattr(s3fs.S3FileSystem, "__init__", impatient)
    close_all()
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir(BUCKET)
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [2, 1, 2])
    for path in folder.iterdir():
        filesystem.put_file(str(path), f"{BUCKET}/corpus/{path.name}")
    yield proxy, patience
    proxy.heal()
    close_all()
    proxy.stop()
    server.stop()
    patch.undo()


@pytest.fixture(scope="module")
def reference(flaky):
    assert extract("reference") == 0
    return objects("reference")


def extract(cache: str) -> int:
    from stages.cli import main

    words = [
        "extract-teacher", f"s3://{BUCKET}/corpus/manifest.jsonl", "--encoder=dummy",
        "--workers=0", "--devices=cpu", "--cache", f"s3://{BUCKET}/{cache}",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["speechkd", *words])
        try:
            main()
        except SystemExit as exit:
            return int(exit.code or 0)
    return 0


def objects(folder: str) -> dict[str, bytes]:
    filesystem = fsspec.filesystem("s3")
    filesystem.invalidate_cache()
    found = filesystem.find(f"{BUCKET}/{folder}")
    return {name.split("/", 2)[2]: filesystem.cat_file(name) for name in found}


@pytest.mark.parametrize("how", PASSING)
def test_every_eighth_request_fails_once_and_nobody_notices(flaky, reference, how):
    proxy, _ = flaky
    numbers = itertools.count(1)
    proxy.set(how, lambda *_: next(numbers) % 8 == 0)
    try:
        status = extract(f"passing-{how}")
    finally:
        proxy.heal()
    assert status == 0
    assert proxy.failed >= 3
    assert objects(f"passing-{how}") == reference


@pytest.mark.parametrize(("how", "method"), LASTING)
def test_what_does_not_pass_is_one_message_and_the_next_run_is_right(
    flaky, reference, capsys, monkeypatch, how, method
):
    """From the fifth request of a kind on: the run has begun."""
    proxy, patience = flaky
    monkeypatch.setitem(patience, "retries", 0)
    if how == "silent":
        monkeypatch.setitem(patience, "seconds", 0.25)
    close_all()
    gc.collect()  # what is left of an earlier instance complains here, not in what is read below
    capsys.readouterr()
    seen = []

    def fails(asked, path):
        seen.extend([path] * (asked == method))
        return asked == method and len(seen) > 4

    cache = f"lasting-{how}-{method}"
    proxy.set(how, fails)
    try:
        status = extract(cache)
    finally:
        proxy.heal()
    told = capsys.readouterr().err
    assert status == 1, told
    assert proxy.failed
    assert "Traceback" not in told
    message = told.rpartition("error: ")[2]
    assert REMEDY.search(message), message
    monkeypatch.undo()
    close_all()
    assert extract(cache) == 0
    assert objects(cache) == reference


def test_a_tar_that_cannot_be_had_costs_only_itself(flaky, reference, capsys):
    proxy, _ = flaky
    proxy.set("flipped", lambda method, path: method == "GET" and path.endswith("1.tar"))
    try:
        status = extract("one-tar")
    finally:
        proxy.heal()
    told = capsys.readouterr().err
    assert status == 1
    assert "1 shard failed" in told
    assert "tried 5 times" in told
    assert {name for name in objects("one-tar") if name.startswith("receipts/")} == {
        "receipts/000000.json",
        "receipts/000002.json",
    }
    assert extract("one-tar") == 0
    assert objects("one-tar") == reference
