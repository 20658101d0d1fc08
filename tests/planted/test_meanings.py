"""What only a text encoder knows reaches a speech module: categories of words that nobody labelled.

Words are made up, with a sound and a meaning that have nothing to do with each other. The text side
knows the meaning. A module that is aligned to it answers for words without a label what it was
labelled for others; one that heard frames alone, or was aligned to other texts, does not.
"""

import csv
import json

import numpy as np
import pytest

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings
from stages.finetune_audio import AudioSettings
from stages.finetune_audio import run as finetune
from stages.pretrain_splat import masked_audio, splat
from tests.helpers.caches import manifest

CATEGORIES, WORDS_EACH, VOICES = 4, 6, 6
CHANNELS, TEXT_WIDTH = 8, 6
CHANCE = 1 / CATEGORIES


def write_cache(folder, kind, clips, rows_of, width, most_rows):
    """A cache of one shard whose clips have given rows; of kind `text` with an id per row."""
    identity = sequence_identity(
        kind, width=width, most_rows=most_rows, dtype="float32",
        hop_samples=0 if kind == "text" else 160,
        settings={"teacher": "made-up", "teacher_sha256": "0" * 64, "layer": 1},
    )  # fmt: skip
    cache = TeacherCache.create_or_open(folder, manifest([len(clips)]), identity, {})
    writer = ShardWriter(cache, 0)
    for clip in clips:
        rows = rows_of(clip).astype(np.float32)
        ids = np.array([101, 200 + clip["word"], 102]) if kind == "text" else None
        writer.append([clip["position"]], rows, [len(rows)], records=[{}], ids_N=ids)
    samples = [{k: v for k, v in clip.items() if k not in ("word", "voice")} for clip in clips]
    assert writer.finish(samples, [], "0" * 64, 1, {}).sound
    return str(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Caches of frames and of text states, and a table of each clip's category."""
    folder, rng = tmp_path_factory.mktemp("meanings"), np.random.default_rng(5)
    words = CATEGORIES * WORDS_EACH
    sounds = rng.standard_normal((words, 5, CHANNELS)) * 1.5
    voices = rng.standard_normal((VOICES, CHANNELS))
    carrier = rng.standard_normal((4, CHANNELS))
    meanings = rng.standard_normal((CATEGORIES, TEXT_WIDTH)) * 2
    own = rng.standard_normal((words, TEXT_WIDTH)) * 0.4
    clips = [
        {
            "position": word * VOICES + voice, "word": word, "voice": voice,
            "key": f"w{word}v{voice}", "text": f"show the w{word}", "duration_s": 0.2,
            "speaker": f"v{voice}", "recording": f"v{voice}",
        }
        for word in range(words)
        for voice in range(VOICES)
    ]  # fmt: skip

    def frames(clip):
        said = np.concatenate([carrier, sounds[clip["word"]]]) + voices[clip["voice"]]
        return said + 0.3 * np.random.default_rng(clip["position"]).standard_normal(said.shape)

    def states(clip):
        vector = meanings[clip["word"] // WORDS_EACH] + own[clip["word"]]
        return np.stack([vector, vector[::-1], np.ones(TEXT_WIDTH)])

    mels = write_cache(folder / "mels", "whisper-mel", clips, frames, CHANNELS, 12)
    texts = write_cache(folder / "texts", "text", clips, states, TEXT_WIDTH, 4)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [[clip["key"], f"c{clip['word'] // WORDS_EACH}", clip["word"] % 2] for clip in clips]
        csv.writer(file).writerows([["id", "category", "half"], *rows])
    return folder, mels, texts


@pytest.mark.slow
def test_meaning_reaches_speech_from_the_right_texts_alone(corpus):
    folder, mels, texts = corpus
    same = {"device": "cpu", "batch": 24, "held_out": 0.0, "learning_rate": 5e-3, "frames": mels}
    masked_audio(
        MaskedAudioSettings(
            **same, out=folder / "Speech", epochs=2.0, layers=1, width=32, heads=2, stack=3,
            dropout=0.0,
        )
    )  # fmt: skip
    arms = {
        "Seq": {},
        "relabelled": {"control": "relabelled"},
        "Tok": {"align": "tok", "token_weights": "uniform"},
    }
    for name, changes in arms.items():
        splat(
            SplatSettings(
                **same, text=texts, init=str(folder / "Speech"), out=folder / name, epochs=25.0,
                selection="last", **changes,
            )
        )  # fmt: skip
    finetune(
        AudioSettings(
            data=[str(folder / "labels.csv")], cache=mels, label_column="category",
            checkpoint=[str(folder / name) for name in ("Speech", *arms)], out=folder / "results",
            fold_column="half", selection="last", seeds="0", epochs=15, device="cpu",
            batch_size=24, learning_rate=1e-3,
        )
    )  # fmt: skip
    lines = (folder / "results" / "results.jsonl").read_text().splitlines()
    right = {}
    for cell in map(json.loads, lines):
        right.setdefault(cell["checkpoint"]["label"], []).append(cell["metrics"]["accuracy"])
    share = {name: float(np.mean(values)) for name, values in right.items()}
    assert all(len(values) == 2 for values in right.values())
    # a word is the unit: 24 words, each answered alike by all voices
    deviation = (CHANCE * (1 - CHANCE) / (CATEGORIES * WORDS_EACH)) ** 0.5
    assert share["Seq"] > CHANCE + 5 * deviation, share
    # a query over frames is fresh, and half a hundred steps teach it little
    assert share["Tok"] > CHANCE + 1.5 * deviation, share
    for name in ("Speech", "relabelled"):
        assert share[name] < CHANCE + 3 * deviation, share
    assert share["Seq"] - share["relabelled"] > 0.3, share
