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
