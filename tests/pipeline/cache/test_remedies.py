"""What is said of a folder that is not the cache that is wanted."""

import json

import pytest

from pipeline.cache.identity import KINDS
from pipeline.cache.remedies import makers
from pipeline.cache.store import TeacherCache
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from tests.helpers.caches import make_cache


def test_each_command_that_makes_a_cache_can_be_copied_by_itself():
    assert makers(["vector"]) == "Make one with `speechkd extract-teacher`."
    assert makers(["whisper-mel", "ctal-mel", "states"]) == (
        "Make one with `speechkd extract-features --features whisper-mel`, `speechkd "
        "extract-features --features ctal-mel` or `speechkd extract-teacher --keep states`."
    )
    assert (
        makers(KINDS) == "Make one with `speechkd extract-teacher` or `speechkd extract-features`."
    )


@pytest.mark.parametrize(
    ("file", "meaning"),
    [
        (None, "and nothing else"),
        ("", "it is a file"),
        ("manifest.jsonl", "it is a folder of shards, from which caches are made"),
        ("run.json", "it is the folder of a run"),
        ("results.json", "it is a results folder"),
        ("other", "there is no cache here. Make one"),
    ],
)
def test_what_is_there_instead_of_a_cache_is_said(tmp_path, file, meaning):
    place = tmp_path / "place"
    if file == "":
        place.write_text("")
    elif file is not None:
        place.mkdir()
        (place / file).write_text(json.dumps({}))
    with pytest.raises(NotThere) as refusal:
        TeacherCache.open(place, kinds=("whisper-mel",))
    assert meaning in str(refusal.value)
    assert "`speechkd extract-features --features whisper-mel`" in str(refusal.value)


def test_a_cache_of_another_kind_is_told_with_both_kinds(tmp_path):
    make_cache(tmp_path / "cache", [2])
    with pytest.raises(
        SpeechkdError, match=r"a cache of kind vector, and .* one of kind states or words\. Make"
    ):
        TeacherCache.open(tmp_path / "cache", kinds=("states", "words"))


def test_a_cache_that_lost_an_array_names_it(tmp_path):
    make_cache(tmp_path / "cache", [2])
    (tmp_path / "cache" / "embedding" / "zarr.json").unlink()
    with pytest.raises(Damaged, match=r"cache \(.*embedding/zarr\.json is missing or empty"):
        TeacherCache.open(tmp_path / "cache")
