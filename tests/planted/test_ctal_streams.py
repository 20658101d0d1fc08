"""Each of CTAL's streams tells what the other cannot: the voice is in the audio, words in the text.

A cache of made-up log-mels → pretrain ctal → finetune audio-text with both streams, or one. The
affect is in the frames alone; the words are in the text, and in the frames under noise. One label
of four classes asks for both.
"""

import csv
import json

import numpy as np
import pytest

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from stages.finetune_audio_text import AudioTextSettings
from stages.finetune_audio_text import run as finetune
from stages.pretrain_ctal import CtalSettings, run
from tests.helpers.caches import manifest

pytestmark = pytest.mark.slow

WORDS = ("one", "two", "three", "four")
BRIGHT_WORDS = WORDS[:2]
CHANNELS, FRAMES_PER_WORD, WORDS_PER_CLIP, CLIPS = 6, 10, 3, 300
NOISE = 3.0
AFFECT, WORD = 0, 1


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A cache, and a table that asks for the affect of the voice with the class of a word."""
    folder, rng = tmp_path_factory.mktemp("streams"), np.random.default_rng(0)
    sound = rng.normal(size=(len(WORDS), FRAMES_PER_WORD, CHANNELS))
    voice = rng.normal(size=CHANNELS)
    frames = FRAMES_PER_WORD * WORDS_PER_CLIP
    identity = sequence_identity(
        "ctal-mel", width=CHANNELS, most_rows=frames, hop_samples=200, settings={}
    )
    cache = TeacherCache.create_or_open(folder / "mels", manifest([CLIPS]), identity, {})
    writer = ShardWriter(cache, 0)
    samples, rows = [], []
    for clip in range(CLIPS):
        said, affect = rng.integers(len(WORDS), size=WORDS_PER_CLIP), int(rng.integers(2))
        heard = sound[said].reshape(-1, CHANNELS) + (2 * affect - 1) * voice
        heard += NOISE * rng.normal(size=heard.shape)
        writer.append([clip], heard.astype(np.float32), [frames])
        text = " ".join(WORDS[word] for word in said)
        samples.append(
            {
                "position": clip,
                "key": f"clip-{clip}",
                "text": text,
                "duration_s": frames * 0.0125,
                "speaker": f"speaker-{clip}",
                "recording": f"recording-{clip}",
            }
        )
        word = int(WORDS[said[0]] in BRIGHT_WORDS)
        split = "train" if clip < 200 else "test"
        rows.append([f"clip-{clip}", text, f"voice {affect} word {word}", split])
    assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["key", "text", "label", "split"], *rows])
    return folder


@pytest.fixture(scope="module")
def told(work):
    """Shares of affects and of words that streams tell right; frames look at the text or not."""

    def of(streams, cross):
        model, out = work / f"ctal-{cross}", work / f"{streams}-{cross}"
        if not model.exists():
            run(
                CtalSettings(
                    cache=str(work / "mels"), out=model, layers=1, width=32, heads=4, dropout=0.0,
                    vocab_size=300, epochs=2.0, batch=16, learning_rate=3e-3, stack=10,
                    held_out=0.0, shortest_ms=125.0, longest_ms=125.0, frame_share=0.3,
                    normalisation="none", cross=cross, device="cpu", checkpoint_minutes=0.0,
                )
            )  # fmt: skip
        finetune(
            AudioTextSettings(
                data=[str(work / "table.csv")], cache=str(work / "mels"), seeds="0", out=out,
                checkpoint=[str(model)], split_column="split", streams=streams, epochs=6,
                batch_size=16, learning_rate=3e-3, device="cpu", selection="last",
            )
        )  # fmt: skip
        (cell,) = map(json.loads, (out / "results.jsonl").read_text().splitlines())
        with (out / cell["predictions"]).open() as file:
            rows = list(csv.DictReader(file))
        answers = [
            (row["raw"].split(), cell["outputs"][int(row["prediction"])].split()) for row in rows
        ]
        return [
            float(np.mean([a[at] == b[at] for a, b in answers])) for at in (1, 3)
        ]  # of `voice 0 word 1`

    return of


def test_the_voice_is_in_the_audio_the_words_in_the_text_and_both_streams_tell_both(told):
    text, audio, both = (told(streams, "off") for streams in ("text", "audio", "both"))
    looking = told("audio", "on")
    assert text[AFFECT] < 0.65  # a half are right by chance
    assert text[WORD] > 0.9
    assert audio[AFFECT] > 0.9
    assert audio[WORD] < text[WORD] - 0.15  # under noise
    assert min(both) > 0.9
    # frames that look at the text tell its words, too
    assert min(looking) > 0.9
