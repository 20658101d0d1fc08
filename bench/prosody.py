"""The pitch tracker of a prosody cache beside librosa's: speed, and accuracy on made tones.

    python bench/prosody.py
    python bench/prosody.py --audio recordings/    # against librosa's on real speech as well

Tones have ten overtones, glide from 80 to 350 Hz, pause and go on, in white noise. Truth is known
to the sample. A frame counts if its whole window is within a tone, or outside of all. Time is
processor time of one thread.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.extraction.prosody import HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ, PITCH_WINDOW, PYIN
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


def ours(wave: NDArray[np.float32]) -> Tracked:
    pitch, _ = PYIN.track(wave)
    return pitch, pitch > 0


def yin(wave: NDArray[np.float32]) -> Tracked:
    pitch = librosa.yin(wave, **OPTIONS)
    return pitch, np.ones(len(pitch), bool)


WAYS: dict[str, Callable[[NDArray[np.float32]], Tracked]] = {
    "as it is used": ours,
    "librosa's pyin": lambda wave: pyin(wave, 0.1),
    "librosa's pyin, bins twice as wide": lambda wave: pyin(wave, 0.2),
    "librosa's yin": yin,
}


def wave_of(
    seed: int, ratio_db: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """A wave, and its pitch and whether there is a tone, at every sample."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(SECONDS * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hertz = 80 * (350 / 80) ** (0.5 + 0.5 * np.sin(2 * np.pi * 0.2 * seconds + seed))
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE_HZ
    tone = sum(
        (rng.uniform(0.2, 1) / k * np.sin(k * phase) for k in range(1, 11)), np.zeros(len(phase))
    )
    sounds = np.sin(2 * np.pi * 0.9 * seconds + seed) > -0.3
    noise = rng.standard_normal(len(tone)) * np.std(tone) * 10 ** (-ratio_db / 20)
    return (0.1 * (tone * sounds + noise)).astype(np.float32), hertz, sounds


def judge(ratio_db: float) -> list[str]:
    lines = []
    for name, track in WAYS.items():
        errors, hits, false = [], [], []
        for seed in range(TONES):
            wave, hertz, sounds = wave_of(seed, ratio_db)
            centres = np.arange(0, len(wave), HOP_LENGTH)
            around = [
                sounds[max(0, c - PITCH_WINDOW // 2) : c + PITCH_WINDOW // 2] for c in centres
            ]
            within = np.array([bool(part.all()) for part in around])
            outside = np.array([not part.any() for part in around])
            pitch, voiced = (values[: len(centres)] for values in track(wave))
            judged_C = within & voiced
            errors.append(np.abs(pitch[judged_C] / hertz[centres][judged_C] - 1))
            hits.append(voiced[within])
            false.append(voiced[outside])
        error = np.concatenate(errors)
        lines.append(
            f"| {ratio_db:g} dB | {name} | {np.concatenate(hits).mean():.1%} | "
            f"{np.concatenate(false).mean():.1%} | {np.median(error):.2%} | "
            f"{(error > 0.05).mean():.2%} |"
        )
    return lines


def agreement(waves: list[NDArray[np.float32]]) -> Iterator[str]:
    """How many frames have the voicing, and the pitch, of librosa's pyin."""
    exact, *others = (
        tuple(np.concatenate(parts) for parts in zip(*map(WAYS[name], waves), strict=True))
        for name in ("librosa's pyin", "as it is used", "librosa's pyin, bins twice as wide")
    )
    yield f"\n{len(exact[0]):,} frames of {len(waves)} recordings, beside librosa's pyin:"
    for name, (pitch, voiced) in zip(("as it is used", "bins twice as wide"), others, strict=True):
        both = voiced & exact[1]
        yield (
            f"{name}: other voicing {np.sum(voiced != exact[1]):,} frames, other pitch "
            f"{np.sum(~np.isclose(pitch[both], exact[0][both], rtol=1e-6)):,} of {both.sum():,}"
        )


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
    waves = [wave_of(seed, 20)[0] for seed in range(TONES)]
    if options.audio:
        kinds = (".flac", ".wav", ".ogg", ".opus")
        paths = sorted(p for p in options.audio.rglob("*") if p.suffix in kinds)
        step = max(1, len(paths) // options.files)
        waves = [read_clip(path, limit_s=120) for path in paths[::step][: options.files]]
        print("\n".join(agreement(waves)))
    print()
    for name, rate in speed(waves).items():
        print(f"{name}: {rate:,.0f} s of audio per second of processor time")


if __name__ == "__main__":
    main()
