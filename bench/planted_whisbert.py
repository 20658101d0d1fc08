"""WhisBERT on words that only the audio tells, its controls, and what breaks it on purpose.

    python -m bench.planted_whisbert --out DIR

Sixteen words, each with a pattern of its own in 16 channels, of two or three patches. Clips are
four words drawn uniformly, so that a masked word cannot be known from the text. One word of four is
masked. Each line of the table is a run of `speechkd pretrain whisbert` and its held-out losses.

The mutations break one thing each: fused states get the place of their pair in the batch and not
in the pair; each text is joined with the audio of the clip before it; unmatched pairs match; fused
text states saw what is masked. Each must make the experiment fail.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from pipeline.cache.identity import sequence_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from pipeline.models.lengths import Lengths
from pipeline.models.whisbert import fusion
from pipeline.models.whisbert.fusion import Pairing
from pipeline.models.whisbert.layers import positions
from pipeline.pretraining.whisbert import batches, measures, module
from pipeline.pretraining.whisbert.settings import WhisbertSettings
from pipeline.shards.manifest import Manifest, Shard

WORDS = [a + b for a in ("ba", "de", "gi", "ko") for b in ("lu", "ma", "ne", "ri")]
CHANNELS, NOISE, CLIPS = 16, 0.5, 960
CHANCE = math.log(len(WORDS))
RECOVERED, NOTHING = 1.0, 2.45
"""Held-out losses of a masked word. Text alone gives 2.61 at best: of the masked words a fifth keep
their word or get another one, which tells half of them."""
ALL = ["mlm", "mam", "mmc", "mmm", "atm"]
JOINED = {"mam_share": 0.1}
"""One hidden patch per clip, so that joined states learn of words first."""


def make_cache(location: Path, seed: int = 0) -> Path:
    """A cache of clips of four words each."""
    rng = np.random.default_rng(seed)
    patterns = [
        np.repeat(rng.standard_normal((1, CHANNELS)), 10 * rng.integers(2, 4), 0) for _ in WORDS
    ]
    cache = TeacherCache.create_or_open(
        location,
        Manifest((Shard("s-000000.tar", CLIPS, 10_240, "0" * 64),), "manifest.jsonl"),
        sequence_identity(
            "whisper-mel", width=CHANNELS, most_rows=120, hop_samples=160, rows_per_object=4096,
            settings={},
        ),
        {},
    )  # fmt: skip
    writer, samples = ShardWriter(cache, 0), []
    for number in range(CLIPS):
        spoken = rng.integers(len(WORDS), size=4)
        frames = np.concatenate([patterns[word] for word in spoken])
        frames += NOISE * rng.standard_normal(frames.shape)
        writer.append([number], frames.astype(np.float32), [len(frames)], records=[{}])
        samples.append(
            {"position": number, "key": f"clip-{number}", "duration_s": len(frames) / 100,
             "text": " ".join(WORDS[word] for word in spoken), "speaker": None,
             "recording": f"r{number}"}
        )  # fmt: skip
    writer.finish(samples, [], "0" * 64, 10_240, {})
    return location


def held_out(cache: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Train by the command; the losses on what is held out, and retrieval."""
    from stages.pretrain_whisbert import run

    config = {
        "model_type": "bert", "hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 192, "max_position_embeddings": 16, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    settings: dict[str, Any] = {
        "cache": str(cache), "out": folder / "run", "student": str(folder / "config.json"),
        "vocab_size": 200, "max_tokens": 8, "width": 48, "heads": 4, "audio_layers": 1,
        "fusion_layers": 2, "batch": 32, "mask_share": 0.25, "mam_share": 0.2, "mam_span": 1,
        "learning_rate": 4e-3, "warmup_fraction": 0.05, "held_out": 0.1, "epochs": 16.0,
        "log_every": 50, "measure_every": 50, **changes,
    }  # fmt: skip
    run(WhisbertSettings(**settings))
    record = json.loads((folder / "run" / "run.json").read_text())
    results: dict[str, Any] = record["result"]["validation"][-1]
    return {**results, "retrieval": record.get("retrieval")}


@contextmanager
def by_pair(*_: Any) -> Iterator[None]:
    """A state's position is its pair's place in the batch."""

    def wrong(lengths: Any, width: int) -> torch.Tensor:
        table = positions(Lengths.of(torch.tensor([len(lengths.lengths_B)])), width)
        return table[lengths.sequence_N]

    with patch.object(fusion, "positions", wrong):
        yield


@contextmanager
def slipped() -> Iterator[None]:
    """Each text is joined with the audio of the clip before it."""
    right: Callable[..., Pairing] = Pairing.of

    def wrong(audio: Any, text: Any, pairs: Any = None) -> Pairing:
        clips = torch.arange(len(text.lengths_B))
        return right(audio, text, (clips.roll(1), clips) if pairs is None else pairs)

    with patch.object(Pairing, "of", wrong):
        yield


@contextmanager
def all_match() -> Iterator[None]:
    """Unmatched pairs are clips with their own texts."""

    def wrong(patches_b: Any, *_: Any) -> Any:
        clips = torch.arange(len(patches_b))
        return clips, clips

    with patch.object(batches, "partners", wrong):
        yield


@contextmanager
def unmasked() -> Iterator[None]:
    """What is joined with the audio are states of texts of which nothing is masked."""
    right = module.WhisBERT._join

    def wrong(self: Any, made: Any, audio: Any, joined: Any, states: Any, seen: Any) -> None:
        masked_ND, seen.text_ND = seen.text_ND, self.read(made.text, made.text.packed, 1)
        right(self, made, audio, joined, states, seen)
        seen.text_ND = masked_ND

    # gradients are not measured, because what is joined hangs on other states than the losses say
    with (
        patch.object(module.WhisBERT, "_join", wrong),
        patch.object(measures, "_gradients", lambda *_: {}),
    ):
        yield


MUTATIONS: dict[str, tuple[Callable[[], Any], str, list[str]]] = {
    "positions by pair": (by_pair, "real", ["mlm", "mmm"]),
    "audio of the clip before": (slipped, "real", ["mlm", "mmm"]),
    "unmatched pairs match": (all_match, "real", ["mlm", "atm"]),
    "joined text is not masked": (unmasked, "shuffled", ["mlm", "mmm"]),
}
"""What is broken, under which control that shows, and by which losses."""


def main() -> None:
    """Run all lines and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=16.0)
    options = parser.parse_args()
    out, epochs = options.out, options.epochs
    out.mkdir(parents=True, exist_ok=True)
    cache = make_cache(out / "mel")
    print("| run | mlm | mmm_text | right | mmc | atm right | found first |")
    print("|---|---|---|---|---|---|---|")
    for control in ("real", "shuffled"):
        results = held_out(cache, out / control, losses=ALL, control=control, epochs=epochs)
        line(control, results)
    for losses in (["mlm", "mmm"], ["mlm", "atm"]):
        results = held_out(cache, out / "-".join(losses), **JOINED, losses=losses, epochs=epochs)
        line(f"real, {losses[1]} alone", results)
    for name, (mutation, control, losses) in MUTATIONS.items():
        with mutation():
            folder = out / name.replace(" ", "-")
            results = held_out(
                cache, folder, **JOINED, losses=losses, control=control, epochs=epochs
            )
        line(f"{control}, broken: {name}", results)


def line(name: str, results: dict[str, Any]) -> None:
    """Print one line of the table."""
    first = (results["retrieval"] or {}).get("audio to text, across recordings") or {}
    names = ("loss/mlm", "loss/mmm_text", "accuracy/mmm_text", "loss/mmc", "accuracy/atm")
    values = [*(results.get(name) for name in names), first.get("r1")]
    cells = ["–" if value is None else f"{value:.3f}" for value in values]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
