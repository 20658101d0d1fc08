"""Which of librosa's pitch trackers a prosody cache should use: speed and accuracy on made tones.

    python bench/prosody.py
    python bench/prosody.py --audio recordings/    # voicing on real speech as well

Tones have ten overtones, glide from 80 to 350 Hz, pause and go on, in white noise. Truth is known
to the sample. A frame counts if its whole window is within a tone, or outside of all. Time is
processor time of one thread.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.extraction.prosody import HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ, PITCH_WINDOW
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.foundation.units import HOP_LENGTH, SAMPLE_RATE_HZ
from pipeline.shards.decoding import read_clip

SECONDS, TONES = 6, 4
OPTIONS = {
    "fmin": LOWEST_PITCH_HZ,
    "fmax": HIGHEST_PITCH_HZ,
    "sr": SAMPLE_RATE_HZ,
    "frame_length": PITCH_WINDOW,
    "hop_length": HOP_LENGTH,
}
Tracked = tuple[NDArray[np.float64], NDArray[np.bool_]]


def pyin(wave: NDArray[np.float32], resolution: float) -> Tracked:
    pitch, voiced, _ = librosa.pyin(wave, resolution=resolution, fill_na=0.0, **OPTIONS)
    return pitch, voiced


def yin(wave: NDArray[np.float32]) -> Tracked:
    pitch = librosa.yin(wave, **OPTIONS)
    return pitch, np.ones(len(pitch), bool)


WAYS: dict[str, Callable[[NDArray[np.float32]], Tracked]] = {
    "pyin, bins of 0.1 semitones": lambda wave: pyin(wave, 0.1),
    "pyin, bins of 0.2 semitones": lambda wave: pyin(wave, 0.2),
    "yin": yin,
}


def made(seed: int, ratio_db: float) -> tuple[NDArray[np.float32], NDArray, NDArray]:
    """A wave, and its pitch and whether there is a tone, at every sample."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(SECONDS * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hertz = 80 * (350 / 80) ** (0.5 + 0.5 * np.sin(2 * np.pi * 0.2 * seconds + seed))
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE_HZ
    tone = sum(rng.uniform(0.2, 1) / k * np.sin(k * phase) for k in range(1, 11))
    sounds = np.sin(2 * np.pi * 0.9 * seconds + seed) > -0.3
    noise = rng.standard_normal(len(tone)) * np.std(tone) * 10 ** (-ratio_db / 20)
    return (0.1 * (tone * sounds + noise)).astype(np.float32), hertz, sounds


def judge(ratio_db: float) -> list[str]:
    lines = []
    for name, track in WAYS.items():
        errors, heard, false = [], [], []
        for seed in range(TONES):
            wave, hertz, sounds = made(seed, ratio_db)
            centres = np.arange(0, len(wave), HOP_LENGTH)
            around = [
                sounds[max(0, c - PITCH_WINDOW // 2) : c + PITCH_WINDOW // 2] for c in centres
            ]
            within = np.array([bool(part.all()) for part in around])
            outside = np.array([not part.any() for part in around])
            pitch, voiced = (values[: len(centres)] for values in track(wave))
            known = within & voiced
            errors.append(np.abs(pitch[known] / hertz[centres][known] - 1))
            heard.append(voiced[within])
            false.append(voiced[outside])
        error = np.concatenate(errors)
        lines.append(
            f"| {ratio_db:g} dB | {name} | {np.concatenate(heard).mean():.1%} | "
            f"{np.concatenate(false).mean():.1%} | {np.median(error):.2%} | "
            f"{(error > 0.05).mean():.2%} |"
        )
    return lines


def speed(waves: list[NDArray[np.float32]]) -> dict[str, float]:
    """Seconds of audio per second of processor time."""
    rates = {}
    for name, track in WAYS.items():
        track(waves[0])  # compiles what is compiled
        start = time.process_time()
        for wave in waves:
            track(wave)
        rates[name] = sum(map(len, waves)) / SAMPLE_RATE_HZ / (time.process_time() - start)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, help="folder of recordings, of which a few are read")
    parser.add_argument("--files", type=int, default=8)
    options = parser.parse_args()
    print(f"{hardware()}, commit {git_commit()}\n")
    print("| tone over noise | way | tones voiced | pauses voiced | median error | over 5 % |")
    print("|---|---|--:|--:|--:|--:|")
    for ratio_db in (40, 20, 10):
        print("\n".join(judge(ratio_db)))
    waves = [made(seed, 20)[0] for seed in range(TONES)]
    if options.audio:
        paths = sorted(p for p in options.audio.rglob("*") if p.suffix in (".flac", ".wav", ".ogg"))
        waves = [read_clip(path, limit_s=120) for path in paths[: options.files]]
        exact, coarse = (
            np.concatenate([WAYS[name](wave)[1] for wave in waves]) for name in list(WAYS)[:2]
        )
        print(f"\nthe two pyins agree on the voicing of {(exact == coarse).mean():.1%} of frames")
    print()
    for name, rate in speed(waves).items():
        print(f"{name}: {rate:,.0f} s of audio per second of processor time")


if __name__ == "__main__":
    main()
