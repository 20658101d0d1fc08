"""`probe blimp` compares minimal pairs by masked-LM encoders alone, and keeps each result apart."""

import json
import shutil

import pytest
from transformers import AutoModel

from pipeline.foundation.errors import SpeechkdError
from stages.probe_blimp import BlimpSettings, run
from tests.helpers.encoders import save_encoder


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "blimp"
    folder.mkdir()
    for name in ("one", "two"):
        rows = [
            {"sentence_good": "the cat sits", "sentence_bad": bad, "UID": name}
            for bad in ("the cat sit", "the cat sits")
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_encoder(tmp_path / "a", ["the cat sits", "cats sit"])
    return tmp_path


def test_accuracies_are_printed_and_written(here, capsys):
    run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")], out=here / "b.json"))
    assert "mean over paradigms" in capsys.readouterr().out
    scores = json.loads((here / "b.json").read_text())["scores"]["a"]
    assert scores["ties"] == 2
    assert scores["pairs"] == 4
    assert set(scores["paradigms"].values()) <= {0.25, 0.75}


def test_an_encoder_that_is_no_masked_lm_is_told(here):
    path = here / "a" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("mask_token")
    path.write_text(json.dumps(config))
    with pytest.raises(SpeechkdError, match="has no mask token"):
        run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")]))


def test_an_encoder_without_a_head_is_not_given_a_random_one(here):
    """Found by a user: MiniLM, which has no head, got 53 % and then 41 % from the same command."""
    AutoModel.from_pretrained(here / "a").save_pretrained(here / "a")
    with pytest.raises(SpeechkdError, match="no MaskedLM head"):
        run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")]))


def test_encoders_of_one_name_are_refused_and_results_name_their_encoder(here):
    shutil.copytree(here / "a", here / "other" / "a")
    both = [str(here / "a"), str(here / "other" / "a")]
    with pytest.raises(SpeechkdError, match="both called a"):
        run(BlimpSettings(data=here / "blimp", checkpoint=both))
    run(BlimpSettings(data=here / "blimp", checkpoint=[f"b={both[1]}"], out=here / "b.json"))
    assert json.loads((here / "b.json").read_text())["encoders"]["b"]["source"] == both[1]


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ("blimp", SpeechkdError, "is a folder; name a file"),
        ("file/there.json", FileExistsError, "File exists: '.*file'"),
        ("file/a/there.json", NotADirectoryError, "Not a directory: '.*file/a'"),
    ],
)
def test_where_no_result_can_be_written_nothing_is_compared(here, monkeypatch, out, error, message):
    monkeypatch.setattr("pipeline.models.encoders.load_masked_lm", None)
    (here / "file").touch()
    with pytest.raises(error, match=message):
        run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")], out=here / out))


def test_the_folder_of_the_result_is_made(here):
    path = here / "not" / "there.json"
    run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")], out=path))
    assert json.loads(path.read_text())["encoders"].keys() == {"a"}


def test_the_way_of_masking_is_recorded(here):
    path = here / "b.json"
    run(
        BlimpSettings(
            data=here / "blimp", checkpoint=[str(here / "a")], out=path, masking="word-l2r"
        )
    )
    told = json.loads(path.read_text())
    assert told["masking"] == "word-l2r"
    assert "Kauf & Ivanova 2023" in told["definition"]


@pytest.fixture
def two(here):
    """Two encoders of other seeds, and a supplement inside BLiMP's folder."""
    save_encoder(here / "b", ["the cat sits", "cats sit"], seed=1)
    extra = here / "blimp" / "supplement_filtered"
    extra.mkdir()
    rows = [
        {"row": i, "sentence_good": "A: cat\nB: sit", "sentence_bad": w} for i, w in enumerate("ab")
    ]
    (extra / "hypernym.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return here


def asked(here, **changes):
    out = here / "out.json"
    both = [str(here / "a"), str(here / "b")]
    run(BlimpSettings(data=here / "blimp", checkpoint=both, out=out, **changes))
    return json.loads(out.read_text())


def test_a_supplement_inside_blimp_changes_no_figure_of_it(two, capsys):
    without = asked(two)
    assert "left out of its figures" in capsys.readouterr().err
    told = asked(two, supplement=two / "blimp" / "supplement_filtered")
    assert told["scores"] == without["scores"]
    assert told["pairs"] == 4
    assert "supplement" not in without
    extra = told["supplement"]
    assert extra["pairs"] == 2
    assert set(extra["scores"]["a"]["fields"]) == {"hypernym"}
    printed = capsys.readouterr().out
    assert "mean over the supplement" in printed
    assert "unknown tokens, supplement" in printed


def test_decisions_are_kept_so_that_encoders_can_be_compared_later(two, capsys):
    told = asked(two, supplement=two / "blimp" / "supplement_filtered")
    assert {n: len(text) for n, text in told["decisions"]["a"].items()} == {"one": 2, "two": 2}
    for part in (told, told["supplement"]):
        count = {"1": 1, "0": 0, "t": 0.5}
        letters = {
            name: [count[x] for text in part["decisions"][name].values() for x in text]
            for name in "ab"
        }
        for name in "ab":
            assert part["scores"][name]["over_pairs"] == sum(letters[name]) / len(letters[name])
        apart = [b - a for a, b in zip(letters["a"], letters["b"], strict=True)]
        less = part["less_first"]["b"]["all"]
        assert less["difference"] == sum(apart) / len(apart)
        assert (less["better"], less["worse"]) == (
            sum(x > 0 for x in apart),
            sum(x < 0 for x in apart),
        )
    assert told["first"] == "a"
    assert "b less a, over pairs" in capsys.readouterr().out


def test_what_length_alone_gives_stands_beside(here, capsys):
    """`the cat sit` is as long in words as `the cat sits`, and no longer in tokens."""
    path = here / "b.json"
    run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")], out=path))
    told = json.loads(path.read_text())["shorter_sentence"]
    assert told["words"]["over_pairs"] == 0.5
    assert told["tokens"]["a"]["pairs"] == 4
    assert "shorter sentence" in capsys.readouterr().out


def test_the_papers_table_stands_beside_with_its_correction(here, capsys):
    path = here / "b.json"
    one = [str(here / "a")]
    run(BlimpSettings(data=here / "blimp", checkpoint=one, out=path, beside="paper"))
    printed = capsys.readouterr().out
    assert "RoBERTa 100M" in printed
    assert "BabyLM's track of 10 M words" in printed
    assert "Ours are of other pairs than the paper's" in printed
    assert json.loads(path.read_text())["paper"]["figures"]["ellipsis"]["MM"] == "88.68"


@pytest.mark.parametrize("changes", [{"by": "paradigm"}, {"masking": "word-l2r"}])
def test_the_paper_stands_beside_its_own_definition_only(here, changes):
    with pytest.raises(SpeechkdError, match="--beside paper"):
        BlimpSettings(data=here, checkpoint=["a"], beside="paper", **changes)


def test_lines_may_be_paradigms(here, capsys):
    run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")], by="paradigm"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "two" in line]
    assert lines


def test_files_without_a_pair_are_told(here):
    for path in (here / "blimp").iterdir():
        path.write_text("\n")
    with pytest.raises(SpeechkdError, match="hold no pair at all"):
        run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")]))
