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


@pytest.mark.parametrize("out", ["blimp", "not/there.json"])
def test_where_no_result_can_be_written_nothing_is_compared(here, out):
    with pytest.raises(SpeechkdError, match="name a file in a folder that exists"):
        run(BlimpSettings(data=here / "blimp", checkpoint=[str(here / "a")], out=here / out))


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
