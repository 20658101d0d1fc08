"""`probe hearing` asks encoders of speech that no student met, and keeps what each one told."""

import pytest

from pipeline.reports.hearing import bootstrap
from pipeline.reports.hearing.sections import HearingReport
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
def few_draws(monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 500)
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
    report = asked(here, tmp_path / "o", **both)
    printed = capsys.readouterr().out
    assert "clips: R@10" in printed
    assert "hearing.png" in printed
    assert (tmp_path / "o" / "hearing.png").read_bytes().startswith(b"\x89PNG")
    # what is heard follows from words and speakers: so counts explain it within speaker alone
    within = figure(report, "words: explained variance, within speaker, %")
    raw = figure(report, "words: explained variance, raw, %")
    assert within.low > 0.6
    assert raw.high < within.low
    # what is left of a word without its type is noise
    assert abs(figure(report, "words: explained variance, within word, %").mean) < 0.05
    assert figure(report, "words: pitch, within speaker, r × 100").low > 0.9
    assert "does not differ" in "".join(report.remarks())  # pauses are all of one length
