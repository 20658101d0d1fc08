"""The planted words of WhisBERT, spoken: wav → tar → log-mel → stem, by the commands a user has.

    python -m bench.planted_whisbert_speech --out DIR

Sixteen words, two per clip and drawn uniformly, are said by eSpeak NG at changing pitch and pace.
`shard`, `extract-features --features whisper-mel` and `pretrain whisbert` do the rest. A masked
word cannot be known from the text. What audio and text joined tell of it came through all of that;
beside another clip's audio they tell nothing.

What is there is not made again, so that the command may be stopped and run again.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from bench.planted_whisbert import JOINED, held_out, line
from pipeline.foundation.atomic import replaced, write_text
from pipeline.foundation.units import SAMPLE_RATE_HZ

WORDS = (
    *("boom", "cash", "fern", "hush", "joint", "keg", "loaf", "mud"),
    *("paw", "ride", "seal", "tape", "thorn", "vine", "wolf", "zip"),
)
PER_CLIP = 2
VOICE = "en-us"
PITCH, RATE_WPM = (40, 61), (160, 181)


def speak(folder: Path, clips: int, seed: int = 0) -> Path:
    """Speak clips of two words each.

    Args:
        folder: gets a WAV file per clip and `table.tsv`, which `speechkd shard` takes.
        clips: how many.
        seed: of the words, and of how they are said.

    Raises:
        SpeechkdError: eSpeak NG is missing.
    """
    import soundfile

    from pipeline.tasks.planted.speech import Synthesizer

    folder.mkdir(parents=True, exist_ok=True)
    rng, synthesizer, rows = np.random.default_rng(seed), Synthesizer(), []
    for number in range(clips):
        text = " ".join(WORDS[word] for word in rng.integers(len(WORDS), size=PER_CLIP))
        voiced = {"pitch": int(rng.integers(*PITCH)), "rate_wpm": int(rng.integers(*RATE_WPM))}
        rows.append(f"clip-{number}\tclip-{number}.wav\t{VOICE}\t{text}\n")
        if (folder / f"clip-{number}.wav").exists():
            continue
        wave_S = synthesizer.speak(text, voice=VOICE, **voiced)
        with replaced(folder / f"clip-{number}.wav") as path:
            soundfile.write(
                path, np.clip(wave_S, -1, 1), SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV"
            )
    table = folder / "table.tsv"
    write_text(table, "id\tpath\tspeaker\ttext\n" + "".join(rows))
    return table


def make_cache(folder: Path, clips: int) -> Path:
    """Speak, shard and hear: a cache of Whisper's log-mel."""
    from pipeline.extraction.settings import FeatureSettings
    from pipeline.shards.settings import ShardSettings
    from stages import extract_features, shard

    table = speak(folder / "wav", clips)
    shards = folder / "shards"
    if not (shards / "manifest.jsonl").exists():
        shard.run(
            ShardSettings(
                source=str(table), out=shards, workers=1, key_column="id", speaker_column="speaker"
            )
        )
    extract_features.run(
        FeatureSettings(
            manifest=str(shards / "manifest.jsonl"), features="whisper-mel",
            cache=str(folder / "mels"), workers=0,
        )
    )  # fmt: skip
    return folder / "mels"


def main() -> None:
    """Run the experiment and its control, and print their held-out losses."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=960)
    parser.add_argument("--epochs", type=float, default=40.0)
    options = parser.parse_args()
    cache = make_cache(options.out, options.clips)
    print(f"ln {len(WORDS)} = {math.log(len(WORDS)):.3f}")
    print("| run | mlm | mmm_text | right | mmc | atm right | found first |")
    print("|---|---|---|---|---|---|---|")
    for control in ("real", "shuffled"):
        results = held_out(
            cache, options.out / control, **JOINED, losses=["mlm", "mmm"], control=control,
            epochs=options.epochs, batch=options.clips // 30,
        )  # fmt: skip
        line(control, results)


if __name__ == "__main__":
    main()
