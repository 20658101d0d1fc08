"""The files of a corpus: sorted, links once, circles refused, and what nothing uses is told."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.corpora import open_source
from pipeline.shards.walking import files_below, passed_over


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def below(folder, **options):
    return [str(path.relative_to(folder)) for path in files_below(folder, **options)]


def test_files_of_a_folder_come_before_those_of_its_folders(tmp_path):
    put(tmp_path, "b/2", "b/10", "a/x/1", "z", "a/y", ".hidden", ".git/x", "b/._2")
    assert below(tmp_path) == ["z", "a/y", "a/x/1", "b/10", "b/2"]


def test_a_link_to_a_folder_of_the_corpus_gives_nothing_twice(tmp_path):
    put(tmp_path, "real/1", "real/deep/2")
    (tmp_path / "a").symlink_to(tmp_path / "real")
    (tmp_path / "b").symlink_to("real/deep", target_is_directory=True)
    assert below(tmp_path) == ["real/1", "real/deep/2"]


def test_a_link_in_a_circle_is_refused_by_name(tmp_path):
    put(tmp_path, "corpus/real/1")
    for target in (tmp_path / "corpus", tmp_path / "corpus" / "real", tmp_path):
        link = tmp_path / "corpus" / "real" / "loop"
        link.symlink_to(target, target_is_directory=True)
        with pytest.raises(SpeechkdError, match=r"real/loop is a link .*circles"):
            below(tmp_path / "corpus", outside_links=True)
        link.unlink()


def test_a_link_out_of_the_corpus_is_refused_by_name_or_followed_once(tmp_path):
    put(tmp_path, "corpus/real/1", "other/2", "other/deep/3")
    corpus = tmp_path / "corpus"
    for name, target in (("linked", "other"), ("again", "other"), ("part", "other/deep")):
        (corpus / name).symlink_to(tmp_path / target, target_is_directory=True)
    with pytest.raises(SpeechkdError, match=r"corpus/again is a link to .*other, .*--follow-links"):
        below(corpus)
    assert below(corpus, outside_links=True) == ["again/2", "again/deep/3", "real/1"]


def test_a_linked_file_is_a_file_and_a_linked_corpus_a_corpus(tmp_path):
    put(tmp_path, "blobs/1")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.wav").symlink_to(tmp_path / "blobs" / "1")
    (tmp_path / "link").symlink_to(tmp_path / "corpus", target_is_directory=True)
    assert below(tmp_path / "corpus") == below(tmp_path / "link") == ["a.wav"]


def test_recordings_behind_a_link_are_entries(tmp_path):
    put(tmp_path, "corpus/a.wav", "corpus/a.txt", "other/b.wav", "other/b.txt")
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(SpeechkdError, match="corpus/linked is a link"):
        list(open_source(tmp_path / "corpus", "folder").read())
    source = open_source(tmp_path / "corpus", outside_links=True)
    assert [entry.key for entry in source.read()] == ["a", "linked/b"]


def test_what_is_not_used_is_counted_by_kind_with_an_example(tmp_path):
    put(tmp_path, "a.wav", "a.txt", "a.TextGrid", "b.mkx", "b.txt", "c.mkx", "d.txt", "e.md", "f")
    put(tmp_path, "deep/g.flac", ".DS_Store")
    (tmp_path / "gone.wav").symlink_to("nowhere")
    lines = passed_over(tmp_path, {str(tmp_path / "a.wav")})
    assert [line.partition(", such as ")[0] for line in lines] == [
        "not used: .mkx (2)",
        "not used: .txt without a recording of the same name (2)",
        "not used: .md (1)",
        "not used: files without a suffix (1)",
        "not used: links to nothing (1)",
        "not used: recordings that nothing names (1)",
    ]
    assert "b.mkx; with a .txt beside it, but no recording's suffix (known: .flac .wav" in lines[0]
    assert lines[-1].endswith("deep/g.flac")
    used = {str(path) for path in (*tmp_path.iterdir(), tmp_path / "deep" / "g.flac")}
    assert passed_over(tmp_path, used) == []


def test_many_kinds_are_summed(tmp_path):
    put(tmp_path, *(f"x.{number}" for number in range(20)))
    assert passed_over(tmp_path, set())[-1] == "not used: files of other kinds (8)"
