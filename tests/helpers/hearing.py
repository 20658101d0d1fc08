"""Caches of speech that was never spoken: what is heard follows from words, speakers and noise.

A word's vector is that of its type, plus its speaker's voice, plus noise; a clip's is the mean of
its words'. So word counts explain much of them, speakers much of the rest, and nothing else does.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.cache.writing import ShardWriter
from tests.helpers.caches import WORDS, identity, manifest

WIDTH = 6
WORD_SECONDS, PAUSE_SECONDS = 0.3, 0.1
FRAMES_PER_WORD = 40  # with its pause


@dataclass(frozen=True)
class Speech:
    """Clips, and what is heard in them.

    Attributes:
        texts: one per clip.
        speakers: None if unknown.
        recordings: None if unknown.
        words: vectors of each clip's words.
        pitches: Hz of each clip's words.
        keys: of the clips.
    """

    texts: list[str]
    speakers: list[str | None]
    recordings: list[str | None]
    words: list[np.ndarray]
    pitches: list[np.ndarray]
    keys: list[str]


def speech(
    clips: int = 120, speakers: int = 6, *, seed: int = 0, noise: float = 0.3, name: str = "clip"
) -> Speech:
    """Clips of 3 to 8 words; a speaker has `clips / speakers`, in recordings of three."""
    rng, world = np.random.default_rng([seed, 1]), np.random.default_rng(0)
    type_vectors = world.standard_normal((len(WORDS), WIDTH))
    type_pitches = world.uniform(-4, 4, len(WORDS))
    voices = 2 * rng.standard_normal((speakers, WIDTH))
    texts, who, recordings, vectors, pitches = [], [], [], [], []
    for clip in range(clips):
        chosen = rng.integers(0, len(WORDS), rng.integers(3, 9))
        speaker = clip % speakers
        texts.append(" ".join(WORDS[word] for word in chosen))
        who.append(f"{name}-speaker-{speaker}")
        recordings.append(f"{name}-recording-{speaker}-{clip // speakers // 3}")
        jitter = noise * rng.standard_normal((len(chosen), WIDTH))
        vectors.append(type_vectors[chosen] + voices[speaker] + jitter)
        semitones = type_pitches[chosen] + 3 * speaker + noise * rng.standard_normal(len(chosen))
        pitches.append(100 * 2 ** (semitones / 12))
    keys = [f"{name}-{clip}" for clip in range(clips)]
    return Speech(texts, who, recordings, vectors, pitches, keys)


def _parts(one: Speech) -> list[range]:
    half = len(one.texts) // 2
    return [range(half), range(half, len(one.texts))]


def _sample(one: Speech, clip: int, position: int) -> dict:
    return {
        "position": position,
        "key": one.keys[clip],
        "text": one.texts[clip],
        "duration_s": len(one.words[clip]) * (WORD_SECONDS + PAUSE_SECONDS),
        "speaker": one.speakers[clip],
        "recording": one.recordings[clip],
    }


def vector_cache(location: Path, one: Speech) -> TeacherCache:
    """A finished cache of the clips' vectors."""
    parts = _parts(one)
    cache = TeacherCache.create_or_open(
        location, manifest([len(part) for part in parts]), identity(WIDTH), {}
    )
    for shard, part in enumerate(parts):
        vectors = np.stack([one.words[clip].mean(0) for clip in part]).astype(np.float32)
        samples = [_sample(one, clip, position) for position, clip in enumerate(part)]
        write_vectors(cache, shard, ShardResult(vectors, samples, [], "0" * 64, 10_240), {})
    return cache


def word_cache(
    location: Path,
    one: Speech,
    *,
    untrusted: bool = False,
    words: dict[int, list[str]] | None = None,
) -> TeacherCache:
    """A finished cache of the words' vectors.

    Args:
        location: where to make it.
        one: the speech.
        untrusted: whether no word has a trusted time.
        words: other spellings of the words of some clips.
    """
    parts = _parts(one)
    cache = TeacherCache.create_or_open(
        location,
        manifest([len(part) for part in parts]),
        sequence_identity("words", width=WIDTH, most_rows=40, rows_per_object=16, settings={}),
        {},
    )
    for shard, part in enumerate(parts):
        writer, samples = ShardWriter(cache, shard), []
        for position, clip in enumerate(part):
            spelled = (words or {}).get(clip, one.texts[clip].split())
            timed = [
                {
                    "text": word,
                    "start_s": place * (WORD_SECONDS + PAUSE_SECONDS),
                    "end_s": place * (WORD_SECONDS + PAUSE_SECONDS) + WORD_SECONDS,
                    "trusted": not untrusted,
                }
                for place, word in enumerate(spelled)
            ]
            rows = one.words[clip].astype(np.float32)
            writer.append([position], rows, [len(rows)], records=[{"words": timed}])
            samples.append(_sample(one, clip, position))
        assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    return cache


def prosody_cache(location: Path, one: Speech) -> TeacherCache:
    """A finished cache of prosody: each word is voiced at its pitch, pauses are not."""
    parts = _parts(one)
    cache = TeacherCache.create_or_open(
        location,
        manifest([len(part) for part in parts]),
        sequence_identity(
            "prosody", width=3, most_rows=400, hop_samples=160, dtype="float32", settings={}
        ),
        {},
    )
    voiced = round(100 * WORD_SECONDS)
    for shard, part in enumerate(parts):
        writer, samples = ShardWriter(cache, shard), []
        for position, clip in enumerate(part):
            frames = np.zeros((FRAMES_PER_WORD * len(one.pitches[clip]), 3), np.float32)
            frames[:, 1] = -80
            for place, pitch in enumerate(one.pitches[clip]):
                first = place * FRAMES_PER_WORD
                frames[first : first + voiced] = (pitch, -20 + place, 0.9)
            writer.append([position], frames, [len(frames)])
            samples.append(_sample(one, clip, position))
        assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    return cache
