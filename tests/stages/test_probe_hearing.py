"""`probe hearing` asks encoders of speech that no student met, and keeps what each one told."""

import json

import pytest

from pipeline.distillation.settings import DistillSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.hearing import bootstrap
from pipeline.reports.hearing.sections import HearingReport
from stages import distill, report
from stages.probe_hearing import HearingSettings, run
from tests.helpers.encoders import save_encoder
from tests.helpers.hearing import prosody_cache, speech, vector_cache, word_cache


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hearing")
    one = speech()
    vector_cache(folder / "vectors", one)
    word_cache(folder / "words", one)
    prosody_cache(folder / "prosody", one)
    save_encoder(folder / "a", one.texts)
    return folder


@pytest.fixture(autouse=True)
def few_draws(monkeypatch, request):
    monkeypatch.setattr(bootstrap, "DRAWS", 500)
    if request.node.name != "test_clips_words_and_prosody_are_told_and_shown":  # drawing takes 2 s
        monkeypatch.setattr(HearingReport, "picture", lambda _: b"PNG")
    bootstrap.draws.cache_clear()
    yield
    bootstrap.draws.cache_clear()


def asked(here, out, **changes):
    values = {
        "cache": str(here / "vectors"),
        "checkpoint": [str(here / "a")],
        "out": out,
        **changes,
    }
    run(HearingSettings(**values))
    return HearingReport(out)


def figure(report, title, encoder="word counts"):
    measure = next(m for m in report.measures if m.title == title)
    line = next(line for line in report.lines if line.group.name == encoder)
    return report.figures.of(measure, line.group)


def test_clips_words_and_prosody_are_told_and_shown(here, tmp_path, capsys):
    both = {"words": str(here / "words"), "prosody": str(here / "prosody")}
    told = asked(here, tmp_path / "o", **both)
    printed = capsys.readouterr().out
    assert "clips: R@10" in printed
    assert "hearing.png" in printed
    assert (tmp_path / "o" / "hearing.png").read_bytes().startswith(b"\x89PNG")
    # what is heard follows from words and speakers: so counts explain it within speaker alone
    within = figure(told, "words: explained variance (within speaker), %")
    raw = figure(told, "words: explained variance (raw), %")
    assert within.low > 0.6
    assert raw.high < within.low
    # what is left of a word without its type is noise
    assert abs(figure(told, "words: explained variance (within word), %").mean) < 0.05
    assert figure(told, "words: pitch (within speaker), r × 100").low > 0.9
    assert "does not differ" in "".join(told.remarks())  # pauses are all of one length


def test_another_checkpoint_may_be_added_and_what_is_done_is_kept(here, tmp_path, capsys):
    save_encoder(tmp_path / "b", speech().texts, seed=1)
    asked(here, tmp_path / "o")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "o" / "encoders").iterdir()}
    told = asked(here, tmp_path / "o", checkpoint=[str(here / "a"), str(tmp_path / "b")])
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "o" / "encoders").iterdir()}
    assert before.items() < after.items()
    assert [line.group.name for line in told.lines] == ["word counts", "a", "b"]
    with pytest.raises(SpeechkdError, match="seed: 0 there, 1 now"):
        asked(here, tmp_path / "o", seed=1)


def test_a_dry_run_says_what_would_be_asked_and_writes_nothing(here, tmp_path, capsys):
    settings = HearingSettings(
        cache=str(here / "words"), checkpoint=[str(here / "a")], out=tmp_path / "o", dry_run=True
    )
    run(settings)
    said = " ".join(capsys.readouterr().err.split())
    assert "120 clips of 42 recordings, 6 speakers are judged" in said
    assert not (tmp_path / "o").exists()


def test_a_report_has_its_findings_table_and_picture(here, tmp_path, capsys):
    asked(here, tmp_path / "o", prosody=str(here / "prosody"))
    (tmp_path / "again").symlink_to(tmp_path / "o")  # a folder named twice counts once
    twice = [tmp_path / "o", tmp_path / "again"]
    report.run(report.ReportSettings(results=twice, out=tmp_path / "page"))
    page = (tmp_path / "page" / "report.md").read_text()
    assert page.count("# Hearing: unheard speech") == page.count("all figures") == 1
    assert "All tasks on one page" not in page
    assert "# Hearing: unheard speech" in page
    assert "a against word counts" in page
    assert "clips: explained variance (within speaker), %" in page
    assert "no checkpoint is a control" in page
    assert (tmp_path / "page" / "figures" / "hearing.png").is_file()
    lines = (tmp_path / "page" / "report.csv").read_text().splitlines()
    assert any(",hearing,word counts," in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cache": "prosody"},
            "of kind prosody, and this needs one of kind vector or words",
        ),
        ({"words": "vectors"}, "extract-teacher --keep words"),
        ({"prosody": "words"}, "extract-features --features prosody"),
        ({"cache": "words", "words": "words"}, "is a cache of words, and so is --words"),
        ({"cache": "nowhere"}, "there is no cache here, and nothing else"),
        ({"checkpoint": []}, "--checkpoint is empty"),
        ({"checkpoint": ["word counts=a"]}, "both called word counts"),
        ({"unheard": "speaker"}, "names no speaker, or no training does"),
        ({"among": 1}, "at least 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(here, tmp_path, changes, message):
    for name in ("cache", "words", "prosody"):
        if name in changes:
            changes = {**changes, name: str(here / changes[name])}
    with pytest.raises(SpeechkdError, match=message):
        asked(here, tmp_path / "o", **changes)
    assert not (tmp_path / "o").exists()


def test_too_few_clips_or_recordings_are_refused(here, tmp_path):
    few = speech(16, 4)
    vector_cache(tmp_path / "few", few)
    with pytest.raises(SpeechkdError, match="16 clips of 16"):
        asked(here, tmp_path / "o", cache=str(tmp_path / "few"))
    one = speech(60, 1)
    one.recordings[:] = ["the same"] * 60
    vector_cache(tmp_path / "one", one)
    with pytest.raises(SpeechkdError, match="1 recordings; at least 4"):
        asked(here, tmp_path / "o", cache=str(tmp_path / "one"))


def test_one_speaker_is_no_group_and_that_is_said(here, tmp_path):
    one = speech(80, 1)
    vector_cache(tmp_path / "one", one)
    told = asked(here, tmp_path / "o", cache=str(tmp_path / "one"))
    assert "one speaker alone" in " ".join(told.remarks())


def test_words_without_a_trusted_time_are_refused(here, tmp_path):
    word_cache(tmp_path / "untrusted", speech(), untrusted=True)
    with pytest.raises(SpeechkdError, match=r"without a trusted time.*cache info"):
        asked(here, tmp_path / "o", cache=str(tmp_path / "untrusted"))


def test_clips_whose_words_spell_another_text_are_left_out_and_counted(here, tmp_path):
    one = speech()
    others = {clip: ["x"] * len(one.words[clip]) for clip in (3, 5)}
    word_cache(tmp_path / "other", one, words=others)
    told = " ".join(asked(here, tmp_path / "o", cache=str(tmp_path / "other")).remarks())
    count = sum(len(one.words[clip]) for clip in (3, 5))
    assert f"left out are {count} of clips whose words spell another text" in told


def test_each_word_type_once_has_no_figure_within_word_and_that_is_said(here, tmp_path):
    one = speech(60, 4)
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [a + b + c for a in letters for b in letters for c in "abc"]
    number = iter(range(len(names)))
    for clip, words in enumerate(one.words):
        one.texts[clip] = " ".join(names[next(number)] for _ in words)
    word_cache(tmp_path / "once", one)
    told = asked(here, tmp_path / "o", cache=str(tmp_path / "once"))
    assert not [m for m in told.measures if "within word" in m.title]
    assert "vector of words (within word): one half has 0 with others" in " ".join(told.remarks())


def test_shards_that_are_not_finished_are_named(here, tmp_path):
    cache = vector_cache(tmp_path / "half", speech())
    cache.receipt_files.remove(1)
    with pytest.raises(SpeechkdError, match="1 of 2 shards are not finished"):
        asked(here, tmp_path / "o", cache=str(tmp_path / "half"))


@pytest.mark.slow  # two students are trained
def test_clips_that_a_student_was_trained_on_are_never_judged(here, tmp_path):
    for name, seed in (("none", 0), ("crd", 0)):
        distill.run(
            DistillSettings(
                cache=str(here / "vectors"), out=tmp_path / name, kd=[name], student="bert-tiny",
                vocab_size=100, batch=32, epochs=1, held_out=0.4, seed=seed, warmup=1,
            )
        )  # fmt: skip
    runs = [str(tmp_path / "none"), str(tmp_path / "crd")]
    told = asked(here, tmp_path / "o", checkpoint=runs)
    record = json.loads((tmp_path / "crd" / "run.json").read_text())
    held_out = record["data"]["held_out_clips"]
    assert len(told.hearing.levels["clip"].half_n) == held_out < 120
    names = [line.group.name for line in told.lines]
    assert names == ["word counts", "untrained (0.5 M)", "none", "crd"]
    compared = {(one.group.name, one.other.name) for one in told.compared}
    assert ("crd", "none") in compared
    assert ("none", "untrained (0.5 M)") in compared
