"""Each word has frames of its own, and words follow each other at random: only the text tells them.

Beside it the frames are of other words than the texts', which then tell nothing.

A cache of made-up log-mels → pretrain ctal → what is held out, beside each clip's own text and
beside another's.
"""

import json

import numpy as np
import pytest

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from stages.pretrain_ctal import CtalSettings, run
from tests.helpers.caches import manifest

pytestmark = pytest.mark.slow

WORDS = ("one", "two", "three", "four", "five", "six")
CHANNELS, FRAMES_PER_WORD, WORDS_PER_CLIP, CLIPS = 6, 10, 5, 320
MARGIN = 0.03
"""The specification's; in its own run on spoken digits 0.06 were seen after 300 steps."""


def write_cache(location, of_words: bool) -> str:
    """Clips of five words each, whose frames are those of its text's words, or of any."""
    rng, other_rng = np.random.default_rng(0), np.random.default_rng(1)
    sound = rng.normal(size=(len(WORDS), FRAMES_PER_WORD, CHANNELS))
    identity = sequence_identity(
        "ctal-mel",
        width=CHANNELS,
        most_rows=FRAMES_PER_WORD * WORDS_PER_CLIP,
        hop_samples=200,
        settings={},
    )
    cache = TeacherCache.create_or_open(location, manifest([CLIPS]), identity, {})
    writer = ShardWriter(cache, 0)
    samples = []
    for clip in range(CLIPS):
        said = rng.integers(len(WORDS), size=WORDS_PER_CLIP)
        others = other_rng.integers(len(WORDS), size=WORDS_PER_CLIP)
        heard = sound[said if of_words else others].reshape(-1, CHANNELS)
        rows = heard + 0.2 * rng.normal(size=heard.shape)
        writer.append([clip], rows.astype(np.float32), [len(rows)])
        samples.append(
            {
                "position": clip,
                "key": f"clip-{clip}",
                "text": " ".join(WORDS[word] for word in said),
                "duration_s": len(rows) * 0.0125,
                "speaker": f"speaker-{clip % 40}",
                "recording": f"recording-{clip}",
            }
        )
    assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    return str(location)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("planted") / "mels", of_words=True)


@pytest.fixture(scope="module")
def held_out(cache, tmp_path_factory):
    """Of settings, the losses on what is held out after the last epoch."""

    def of(**changes):
        out = tmp_path_factory.mktemp("run") / "ctal"
        settings = CtalSettings(
            **{
                "cache": cache, "out": out, "layers": 1, "width": 48, "heads": 4, "dropout": 0.0,
                "vocab_size": 300, "epochs": 24.0, "batch": 16, "learning_rate": 3e-3, "stack": 10,
                "held_out": 0.1, "shortest_ms": 125.0, "longest_ms": 125.0, "frame_share": 0.3,
                "device": "cpu", "checkpoint_minutes": 0.0, **changes,
            }
        )  # fmt: skip
        run(settings)
        return json.loads((out / "run.json").read_text())["result"]["validation"][-1]

    return of


def test_frames_are_predicted_from_their_own_text_and_not_from_anothers(held_out):
    real = held_out()
    shuffled = held_out(control="shuffled-text")
    assert real["loss/mcam"] < real["loss/mcam_other_text"] - MARGIN
    assert real["loss/mcam"] < shuffled["loss/mcam"] - MARGIN
    assert shuffled["loss/mcam"] > shuffled["loss/mcam_other_text"] - MARGIN
    assert real["loss/mcam"] < min(
        real[f"line/{name}"] for name in ("zero", "interpolation", "held")
    )


def test_texts_that_tell_nothing_of_the_frames_make_no_difference(held_out, tmp_path):
    """So the margin above is of what the text tells, and not of the comparison's own making."""
    real = held_out(cache=write_cache(tmp_path / "mels", of_words=False))
    assert abs(real["loss/mcam"] - real["loss/mcam_other_text"]) < MARGIN / 2
    assert real["loss/mcam"] < real["line/zero"] - MARGIN  # and it has learnt what there is
