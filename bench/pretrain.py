"""Pre-training of speech modules: packed against padded, alignment against masked audio, memory.

    python bench/pretrain.py FRAMES TEXT [--width 768 --stack 4 --batch 16 --rounds 5]

FRAMES is a cache of log-mel with real lengths, TEXT a cache of text states of the same clips. All
forms take turns on the same batches, because other load on a machine moves all figures alike: the
ratios count. Forward and backward pass are timed, without the optimiser, which is the same for all.
"""

import argparse
import copy
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertModel

from pipeline.foundation.provenance import record as provenance
from pipeline.models.speech import SpeechModule
from pipeline.pretraining.running import assemble
from pipeline.pretraining.splat.align import Splat
from pipeline.pretraining.splat.masked_audio import MaskedAudio
from pipeline.pretraining.splat.reading import SpeechBatch
from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings

CPU = torch.device("cpu")
LAYERS, HEADS = 3, 12


def padded(encoder: BertModel, module: SpeechModule, batch: SpeechBatch) -> Tensor:
    """The same clips as plain transformers reads them: padded to the longest, with a mask."""
    clips = batch.clips
    values_ND = module.inputs(clips.values_NK)
    rows = [torch.cat([module.first[None], clip]) for clip in values_ND.split(
        clips.frames.lengths_B.tolist())]  # fmt: skip
    padded_BLD = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask_BL = clips.placed.valid_BL.long()
    return encoder(inputs_embeds=padded_BLD, attention_mask=mask_BL).last_hidden_state


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
    step().backward()
    seconds = time.perf_counter() - started
    module.zero_grad(set_to_none=True)
    return seconds


def speed(frames: str, text: str, folder: Path, given: argparse.Namespace) -> dict[str, object]:
    """Median seconds per step of each form, and their ratios."""
    same = {"frames": frames, "batch": given.batch, "device": "cpu", "held_out": 0.05}
    uniform = {"token_weights": "uniform"}
    shape = {"width": given.width, "layers": LAYERS, "heads": HEADS, "stack": given.stack}
    method = MaskedAudio(MaskedAudioSettings(**same, **shape, out=folder / "a", max_steps=1))
    audio = assemble(method, method.caches(), CPU)
    from pipeline.pretraining.splat.export import save_speech

    save_speech(audio.module.speech, method.front, folder / "start" / "speech")
    aligned = {}
    for align in ("seq", "tok", "tok-contrast"):
        other = Splat(SplatSettings(
            **same, **uniform, text=text, init=str(folder / "start"), align=align,
            out=folder / align,
        ))  # fmt: skip
        aligned[align] = assemble(other, other.caches(), CPU)
    speech = audio.module.speech
    encoders = {f"padded, {name}": plain(speech, name) for name in ("eager", "sdpa")}
    seconds: dict[str, list[float]] = {}
    count = 0
    for place in range(given.rounds):
        batch = audio.workload.epoch(0)(place)
        count += batch.frames
        speech.train()
        forms: dict[str, tuple[Callable[[], Tensor], torch.nn.Module]] = {
            "packed": (lambda b=batch: speech(b.clips).frames_ND.square().mean(), speech),
            "masked audio": (lambda b=batch: audio.module(b)["loss"], audio.module),
        }
        for name, encoder in encoders.items():
            forms[name] = (
                lambda b=batch, e=encoder: padded(e, speech, b).square().mean(),
                encoder,
            )
        for align, parts in aligned.items():
            made = parts.workload.epoch(0)(place)
            forms[align] = (lambda m=made, p=parts: p.module(m)["loss"], parts.module)
        for name, (step, module) in forms.items():
            seconds.setdefault(name, []).append(timed(step, module))
            speech.zero_grad(set_to_none=True)
    for parts in (audio, *aligned.values()):
        parts.ahead.close()
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "frames per batch": count / given.rounds,
        "seconds per step": median,
        "frames per second, packed": count / given.rounds / median["packed"],
        "times faster than padded": {
            name: median[f"padded, {name}"] / median["packed"] for name in ("eager", "sdpa")
        },
        "step over masked audio": {
            align: median[align] / median["masked audio"] for align in aligned
        },
    }


def memory(frames: str, folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """What the dry run announces, and what a run of a few steps takes at most, in GB."""
    command = [
        sys.executable, "-m", "stages.cli", "pretrain", "masked-audio", frames, "--device", "cpu",
        "--width", str(given.width), "--stack", str(given.stack), "--batch-size", str(given.batch),
        "--out", str(folder / "run"),
    ]  # fmt: skip
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    per_epoch = int(re.findall(r"([\d,]+) per epoch", dry.stderr)[0].replace(",", ""))
    command += ["--epochs", str(given.rounds / per_epoch)]  # a whole run of so many steps
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    announced = float(re.findall(r"at most ([\d.]+) GB later", dry.stderr)[0])
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    limits = ["--log-every", "1", "--measure-every", "1"]
    subprocess.run([*command, *limits], capture_output=True, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    lines = [json.loads(x) for x in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "waited_s" in line]
    waited = sum(line["waited_s"] for line in steps[1:])
    return {
        "announced GB": announced,
        "peak GB": max(peak, before) * 1024 / 1e9,
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
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "memory": memory(given.frames, folder, given),
            "speed": speed(given.frames, given.text, folder, given),
            "arguments": vars(given),
            "provenance": provenance(),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
