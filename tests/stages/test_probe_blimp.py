import json

import pytest

from pipeline.errors import SpeechkdError
from stages.probe_blimp import BlimpSettings, run
from tests.encoders import save_encoder


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
