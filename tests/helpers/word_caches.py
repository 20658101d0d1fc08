"""Caches of word vectors with the words, times and trust that a test asks for."""

from pathlib import Path

import numpy as np

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from tests.helpers.caches import manifest


def make_word_cache(
    location: Path, clips: list[tuple[str, list[str] | None, str]], width: int = 4, **changes
) -> TeacherCache:
    """A cache of random word vectors in two shards or one, each word half a second long.

    Args:
        location: where to make it.
        clips: per clip its text, its words (None to cut at spaces), and `1` or `0` per word, which
            says whether its time is trusted.
        width: of a row.
        changes: `keys`, `speakers` and `recordings` by clip, `per_letter_s` for words that are as
            long as they are spelled, and what `sequence_identity` takes.
    """
    speakers = changes.pop("speakers", ["speaker"] * len(clips))
    keys = changes.pop("keys", [f"clip-{i}" for i in range(len(clips))])
    recordings = changes.pop("recordings", [f"recording-{i}" for i in range(len(clips))])
    per_letter_s = changes.pop("per_letter_s", 0.0)
    parts = [p for p in (range(len(clips) // 2), range(len(clips) // 2, len(clips))) if len(p)]
    made_of = {"width": width, "most_rows": 40, "rows_per_object": 16, "settings": {}, **changes}
    cache = TeacherCache.create_or_open(
        location,
        manifest([len(part) for part in parts]),
        sequence_identity("words", **made_of),
        {},
    )
    rng = np.random.default_rng(7)
    for shard, part in enumerate(parts):
        writer, samples = ShardWriter(cache, shard), []
        for position, clip in enumerate(part):
            text, words, trusted = clips[clip]
            spoken = words or text.split()
            lasts_s = [per_letter_s * len(word) or 0.5 for word in spoken]
            timed = [
                {"text": word, "start_s": sum(lasts_s[:i]), "end_s": sum(lasts_s[: i + 1]),
                 "trusted": mark == "1"}
                for i, (word, mark) in enumerate(zip(spoken, trusted, strict=True))
            ]  # fmt: skip
            rows = rng.standard_normal((len(timed), width)).astype(np.float32) + 3
            writer.append([position], rows, [len(timed)], records=[{"words": timed}])
            samples.append(
                {"position": position, "key": keys[clip], "text": text,
                 "duration_s": sum(lasts_s), "speaker": speakers[clip],
                 "recording": recordings[clip]}
            )  # fmt: skip
        assert writer.finish(samples, [], "0" * 64, 10_240, {}).sound
    return cache
