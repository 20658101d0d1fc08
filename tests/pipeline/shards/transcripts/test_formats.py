"""Which file beside a recording tells its times."""

import pytest

from pipeline.shards.transcripts.formats import FORMATS, MAX_BYTES, Siblings, read_times


def names(stem, *files):
    return [name for name, _ in Siblings(files).times_of(stem)]


def test_the_file_that_tells_most_comes_first_and_case_does_not_count():
    files = ("talk.txt", "Talk.SRT", "talk.vtt", "talk.json", "talk.TextGrid", "talk2.srt")
    assert names("talk", *files) == [
        "talk.json",
        "talk.TextGrid",
        "talk.vtt",
        "Talk.SRT",
        "talk.txt",
    ]


def test_one_language_counts_and_two_do_not():
    assert names("my.talk", "my.talk.en-US.vtt") == ["my.talk.en-US.vtt"]
    assert names("talk", "talk.en.vtt", "talk.de.vtt") == []
    assert names("talk", "talk.part.vtt", "talk.1.srt") == []


def test_a_file_too_large_or_absent_is_told(tmp_path):
    with (tmp_path / "big.srt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="over 67,108,864 bytes"):
        read_times(tmp_path / "big.srt")
    with pytest.raises(ValueError, match="not a file"):
        read_times(tmp_path / "none.srt")


def test_every_format_has_another_name():
    assert len({form.name for form in FORMATS.values()}) == len(FORMATS)
