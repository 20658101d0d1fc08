"""Pre-training of speech modules: packed against padded, alignment against masked audio, memory.

    python -m bench.pretrain FRAMES TEXT [--width 768 --stack 4 --batch 16 --rounds 5]

FRAMES is a cache of log-mel with real lengths, TEXT a cache of text states of the same clips. All
forms take turns on the same batches, because other load on a machine moves all figures alike: the
ratios count. Forward and backward pass are timed, without the optimiser, which is the same for all.
"""

import argparse
import copy
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertModel

from bench import announced
from pipeline.foundation.provenance import record as provenance
from pipeline.models.speech import SpeechModule
from pipeline.pretraining.running import assemble
from pipeline.pretraining.splat.align import Splat
from pipeline.pretraining.splat.export import save_speech
from pipeline.pretraining.splat.masked_audio import MaskedAudio
from pipeline.pretraining.splat.reading import SpeechBatch
from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings

CPU = torch.device("cpu")
LAYERS, HEADS = 3, 12


def packed_loss(module: SpeechModule, batch: SpeechBatch) -> Tensor:
    """A number that hangs on all states of a module."""
    loss: Tensor = module(batch.clips).frames_ND.square().mean()
    return loss


def padded_loss(encoder: BertModel, module: SpeechModule, batch: SpeechBatch) -> Tensor:
    """The same of plain transformers: clips padded to the longest, with a mask."""
    clips, first_D = batch.clips, module.first
    if first_D is None:
        raise SystemExit("this module has no learned first position, which the other form pads for")
    values_ND = module.inputs(clips.values_NK)
    rows = [
        torch.cat([first_D[None], clip])
        for clip in torch.split(values_ND, clips.frames.lengths_B.tolist())
    ]
    padded_BLD = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask_BL = clips.placed.valid_BL.long()
    states_BLD = encoder(inputs_embeds=padded_BLD, attention_mask=mask_BL).last_hidden_state
    loss: Tensor = states_BLD.square().mean()
    return loss


def method_loss(module: torch.nn.Module, batch: object) -> Tensor:
    """What a method trains on."""
    loss: Tensor = module(batch)["loss"]
    return loss


def speech_of(module: torch.nn.Module) -> SpeechModule:
    """The speech module in what a method trains."""
    speech = module.speech
    if not isinstance(speech, SpeechModule):
        raise TypeError(f"{type(module).__name__} trains no speech module")
    return speech


def plain(module: SpeechModule, attention: str) -> BertModel:
    """The module's encoder as transformers runs it by itself."""
    config = copy.deepcopy(module.encoder.config)
    config._attn_implementation = attention
    encoder = BertModel(config, add_pooling_layer=False)
    encoder.load_state_dict(module.encoder.state_dict())
    return encoder.train()


def timed(step: Callable[[], Tensor], module: torch.nn.Module) -> float:
    """Seconds of a forward and backward pass."""
    started = time.perf_counter()
    step().backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - started
    module.zero_grad(set_to_none=True)
    return seconds


def speed(frames: str, text: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Median seconds per step of each form, and their ratios."""
    same: dict[str, Any] = {
        "frames": frames, "batch": options.batch, "device": "cpu", "held_out": 0.05,
    }  # fmt: skip
    shape: dict[str, Any] = {
        "width": options.width, "layers": LAYERS, "heads": HEADS, "stack": options.stack,
    }  # fmt: skip
    aligning: dict[str, Any] = {**same, "text": text, "token_weights": "uniform"}
    method = MaskedAudio(MaskedAudioSettings(**same, **shape, out=folder / "a", max_steps=1))
    audio = assemble(method, method.caches(), CPU)
    speech = speech_of(audio.module)
    save_speech(speech, method.front, folder / "start" / "speech")
    parts_of = {}
    for align in ("seq", "tok", "tok-contrast"):
        other = Splat(SplatSettings(
            **aligning, init=str(folder / "start"), align=align, out=folder / align,
        ))  # fmt: skip
        parts_of[align] = assemble(other, other.caches(), CPU)
    encoders = {f"padded, {name}": plain(speech, name) for name in ("eager", "sdpa")}
    seconds: dict[str, list[float]] = {}
    count = 0
    for place in range(options.rounds):
        batch = audio.workload.epoch(0)(place)
        count += batch.frames
        speech.train()
        forms: dict[str, tuple[Callable[[], Tensor], torch.nn.Module]] = {
            "packed": (partial(packed_loss, speech, batch), speech),
            "masked audio": (partial(method_loss, audio.module, batch), audio.module),
        }
        for name, encoder in encoders.items():
            forms[name] = (partial(padded_loss, encoder, speech, batch), encoder)
        for align, parts in parts_of.items():
            pairs = parts.workload.epoch(0)(place)
            forms[align] = (partial(method_loss, parts.module, pairs), parts.module)
        for name, (step, module) in forms.items():
            seconds.setdefault(name, []).append(timed(step, module))
            speech.zero_grad(set_to_none=True)
    for parts in (audio, *parts_of.values()):
        parts.ahead.close()
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "frames per batch": count / options.rounds,
        "seconds per step": median,
        "frames per second, packed": count / options.rounds / median["packed"],
        "times faster than padded": {
            name: median[f"padded, {name}"] / median["packed"] for name in ("eager", "sdpa")
        },
        "step over masked audio": {
            align: median[align] / median["masked audio"] for align in parts_of
        },
    }


def memory(frames: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """What a run of a few steps announces, and what it takes at most, in GB."""
    words = [
        "pretrain", "masked-audio", frames, "--device", "cpu",
        "--width", str(options.width), "--stack", str(options.stack),
        "--batch-size", str(options.batch), "--out", str(folder / "run"),
    ]  # fmt: skip
    dry = subprocess.run(
        [sys.executable, "-m", "stages.cli", *words, "--dry-run"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    per_epoch = int(re.findall(r"([\d,]+) per epoch", dry.stderr)[0].replace(",", ""))
    words += ["--epochs", str(options.rounds / per_epoch)]  # a whole run of so many steps
    used = announced.memory([*words, "--log-every", "1", "--measure-every", "1"])
    lines = [json.loads(x) for x in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "waited_s" in line]
    waited = sum(line["waited_s"] for line in steps[1:])
    return {
        "announced GB": used["announced"],
        "peak GB": used["taken"],
        "waiting for frames, share of time": waited / (steps[-1]["seconds"] - steps[0]["seconds"]),
    }


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames")
    parser.add_argument("text")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--stack", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "memory": memory(options.frames, folder, options),
            "speed": speed(options.frames, options.text, folder, options),
            "arguments": vars(options),
            "provenance": provenance(),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
