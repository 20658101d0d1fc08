"""Input that once crashed a reader, kept it busy for ever, filled the memory or left its folder."""

import json
import pickle
import struct

import numpy as np
import pytest

from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import file_part
from pipeline.models.student import load_encoder
from pipeline.reports.page import Section
from pipeline.shards.corpora import open_source
from pipeline.shards.entries import make_sample
from pipeline.shards.manifest import read_manifest
from pipeline.shards.refusals import Refusal
from pipeline.tasks.mosei.tables import read_folds
from pipeline.tasks.mosei.unpickler import read_pickle
from tests.helpers.caches import make_cache, vectors_of
from tests.helpers.encoders import save_encoder


def test_a_manifest_with_half_a_character(tmp_path):
    line = {"url": "\ud800.tar", "samples": 1, "bytes": 1, "sha256": "0" * 64}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    with pytest.raises(SpeechkdError, match="line 1: url"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"samples": ' + "1" * 5000 + "}"])
def test_a_manifest_that_json_itself_gives_up_on(tmp_path, text):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(SpeechkdError, match="line 1: not JSON"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_list_of_folds_of_which_a_line_lacks_a_field(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"video_id": "v", "split": "train"}\n{"video_id": "w"}')
    with pytest.raises(SpeechkdError, match="line 2: no field split"):
        read_folds(tmp_path / "f.jsonl")


def test_a_pickle_of_ten_bytes_that_asks_for_8_gigabytes(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b".")
    with pytest.raises(SpeechkdError, match="claims 8,589,934,592 bytes"):
        read_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickled_text_of_numbers_that_are_no_characters(tmp_path, order, protocol):
    content = pickle.dumps(np.array(["ab", "c"], f"{order}U2"), protocol)
    letter = "a".encode(f"utf-32-{'lb'[order == '>']}e")
    assert content.count(letter) == 1
    (tmp_path / "good.pkl").write_bytes(content)
    assert read_pickle(tmp_path / "good.pkl").tolist() == ["ab", "c"]
    (tmp_path / "a.pkl").write_bytes(content.replace(letter, b"\x7f" * 4))
    with pytest.raises(SpeechkdError, match="no characters"):
        read_pickle(tmp_path / "a.pkl")


RECONSTRUCTED = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
BYTES = b"cnumpy\ndtype\n(Vu1\ntR"


@pytest.mark.parametrize(
    "content",
    [
        # a date without a unit: numpy ends the process
        b"cnumpy\ndtype\n(VM8\ntR(K\x03V|\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb.",
        # an array that is set again while a view looks at its memory
        b"\x80\x04" + RECONSTRUCTED + b"(K\x01(K\x02t" + BYTES + b"\x89C\x02abtb"
        b"(K\x01(K\x02t" + BYTES + b"\x89C\x02abtb.",
        # an array over another one's memory
        b"\x80\x04cnumpy.core.numeric\n_frombuffer\n(" + RECONSTRUCTED + BYTES + b"(K\x00tVC\ntR.",
    ],
)
def test_a_pickle_that_ends_the_process_or_reads_freed_memory(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(SpeechkdError, match=r"not admitted|sets an array twice|an array of _Array"):
        read_pickle(tmp_path / "a.pkl")


def test_a_storage_object_that_is_cut_off(tmp_path):
    cache = make_cache(tmp_path / "c", [2])
    path = tmp_path / "c" / "embedding" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SpeechkdError, match="shard 0 are damaged"):
        vectors_of(TeacherCache.open(cache.location))


def test_a_path_too_long_for_the_system_is_one_refused_row(tmp_path):
    (tmp_path / "a.csv").write_text(f"path,text\n{'x' * 5000}.wav,said\n")
    (entry,) = open_source(tmp_path / "a.csv").read()
    refused = make_sample(entry, 15, None)
    assert isinstance(refused, Refusal)
    assert refused.reason == "missing audio"


def test_a_class_named_as_a_path_names_no_file_elsewhere():
    assert file_part("../../../etc/cron.d/x: y") == "etc-cron.d-x-y"
    assert Section("t", picture=(f"confusion-{file_part('../x')}", b"")).picture == (
        "confusion-x",
        b"",
    )


def test_layers_without_weights_are_not_drawn_at_random(tmp_path):
    save_encoder(tmp_path / "m", ["a b"])
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 3}))
    with pytest.raises(SpeechkdError, match=r"encoder\.layer\.2.* drawn at random"):
        load_encoder(str(tmp_path / "m"))


def test_a_configuration_fetches_no_code(tmp_path):
    save_encoder(tmp_path / "m", ["a b"])
    path = tmp_path / "m" / "config.json"
    kernel = {"attn_implementation": "kernels-community/flash-attn"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **kernel}))
    with pytest.raises(SpeechkdError, match="may be code from the hub"):
        load_encoder(str(tmp_path / "m"))
