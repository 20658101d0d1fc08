"""A word that only the audio tells: joined states recover it, text alone and other audio do not.

The corpus, its controls and what breaks it on purpose are in bench/planted_whisbert.py.
"""

import math

import pytest

from bench.planted_whisbert import NOTHING, RECOVERED, WORDS, held_out, make_cache

JOINED = {"losses": ["mlm", "mmm"], "mam_share": 0.1}


@pytest.mark.slow
def test_what_only_the_audio_tells_is_recovered_from_it(tmp_path):
    cache = make_cache(tmp_path / "mel")
    own = held_out(cache, tmp_path / "real", **JOINED, epochs=11.0)
    other = held_out(cache, tmp_path / "other", **JOINED, control="shuffled", epochs=7.0)
    assert own["loss/mmm_text"] < RECOVERED
    assert own["accuracy/mmm_text"] > 0.6
    assert own["loss/mlm"] > NOTHING
    assert other["loss/mmm_text"] > NOTHING
    assert math.log(len(WORDS)) > NOTHING


@pytest.mark.slow
def test_clips_find_their_texts_by_their_own_audio_alone(tmp_path):
    """With other clips' audio the contrast stays at chance, and so does matching: nothing else, as
    a pair's place in the batch, tells which texts belong to it."""
    cache = make_cache(tmp_path / "mel")
    own = held_out(cache, tmp_path / "real", losses=["mlm", "mmc"], epochs=3.0)
    other = held_out(
        cache, tmp_path / "other", losses=["mlm", "mmc", "atm"], control="shuffled", epochs=3.0
    )
    assert own["loss/mmc"] < 3.0
    assert other["chance/mmc"] == pytest.approx(math.log(32))
    assert other["loss/mmc"] > math.log(32) - 0.05
    assert other["loss/atm"] > math.log(2) - 0.01
    assert other["accuracy/atm"] == pytest.approx(0.5, abs=0.06)
