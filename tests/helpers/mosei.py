"""Made-up CMU-MOSEI for tests, and where the real one may stand."""

import csv
from pathlib import Path

import numpy as np
import pytest

REAL_DATA = Path(__file__).parents[3] / "shared" / "data" / "cmu_mosei"
needs_real_data = pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason="the real CMU-MOSEI is not on this machine"
)

GOOD = ["wonderful", "great", "lovely", "superb"]
BAD = ["awful", "terrible", "boring", "horrid"]
FILL = ["the", "movie", "was", "really", "and", "i", "think", "story", "actor", "it"]


def sentences(count: int, seed: int = 0) -> list[tuple[str, float]]:
    """Texts whose sentiment is the number of good words less that of bad ones."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        value = int(rng.integers(-3, 4))
        words = list(rng.choice(FILL, rng.integers(3, 9)))
        words += list(rng.choice(GOOD if value > 0 else BAD, abs(value)))
        made.append((" ".join(rng.permutation(words)), float(value)))
    return made


def write_mmsa(path: Path, count: int = 60, seed: int = 0) -> Path:
    """An MMSA `label.csv` of made-up clips, three to a video, 60/20/20 % in the splits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "clip_id", "text", "label", "annotation", "mode"])
        for i, (text, value) in enumerate(sentences(count, seed)):
            video = i // 3
            split = ("train", "train", "train", "valid", "test")[video % 5]
            kind = "Positive" if value > 0 else "Negative" if value < 0 else "Neutral"
            writer.writerow([f"video{video}", i % 3, text.capitalize() + ".", value, kind, split])
    return path
