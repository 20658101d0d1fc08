"""The first half hour on a GPU: what is right, how fast it is, and what each figure decides.

    python bench/gpu.py                        # all parts, on whatever card is here
    python bench/gpu.py --parts sdpa train     # some of them
    python bench/gpu.py --tiny                 # the same on a CPU, as small as can be
    python bench/gpu.py --project              # arithmetic alone: the tables of docs/gpu.md

Prints a page of PASS, FAIL and figures, and writes them to a JSON file in bench/results/. Each part
runs in a process of its own, so that one that fails, hangs or breaks its CUDA context ends nothing
else. Parts that are run again on the same card with the same versions replace their lines in the
file, and leave those of other parts. What the commands and libraries print goes to a log beside
the JSON file.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.foundation.provenance import git_commit, versions  # noqa: E402

if TYPE_CHECKING:
    from bench.distill import Setup
    from pipeline.extraction.teacher import EncoderPrecision
    from pipeline.training.loop import Precision

Result = TypeVar("Result")

RESULTS = ROOT / "bench" / "results"
BACKENDS = {-1: "error", 0: "math", 1: "flash", 2: "efficient", 3: "cuDNN", 4: "overrideable"}
"""Kernels of scaled-dot-product attention, as torch numbers them (`torch._C._SDPBackend`)."""
FORK = multiprocessing.get_context("fork")  # a child has all imports; the parent never meets CUDA


# ---- the page


@dataclass(frozen=True)
class Line:
    """A line of the page: a figure, or a check that passed or failed."""

    part: str
    name: str
    value: str
    passed: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "PASS  ", False: "FAIL  ", None: "      "}[self.passed]
        return f"  {verdict}{self.name}: {self.value}"


@dataclass(frozen=True)
class Part:
    """A part of the half hour.

    Attributes:
        run: does it.
        decides: what its figures decide.
        minutes: the longest that it may take.
    """

    run: Callable[["Sitting"], None]
    decides: str
    minutes: float


@dataclass(frozen=True)
class Sitting:
    """What a part works with.

    Attributes:
        part: its name.
        device: where to compute.
        tiny: whether everything is as small as can be.
        folder: for its files.
        send: takes each line of the page.
    """

    part: str
    device: torch.device
    tiny: bool
    folder: Path
    send: Callable[[Line], None]

    @property
    def on_gpu(self) -> bool:
        """Whether that is a GPU."""
        return self.device.type == "cuda"

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """The device's kind, as commands name it."""
        return "cuda" if self.on_gpu else "cpu"

    @property
    def precision(self) -> "Precision":
        """Precision of training there."""
        return "bf16" if self.on_gpu else "float32"

    def figure(self, name: str, value: object) -> None:
        """Write a figure."""
        self.send(Line(self.part, name, str(value)))

    def check(self, name: str, value: object, passed: bool) -> None:
        """Write what was found, and whether that is as it should be."""
        self.send(Line(self.part, name, str(value), bool(passed)))

    @contextlib.contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Write an error inside the block as a failure of one line, and go on after it."""
        try:
            yield
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            message = str(error).strip().partition("\n")[0]
            self.check(name, f"{type(error).__name__}: {message[:200]}", False)

    def wait(self) -> None:
        """Wait until the device has done what was launched."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def milliseconds(self, call: Callable[[], object], repeats: int = 10, warm: int = 3) -> float:
        """The median time of a call, the device's included."""
        times = []
        for number in range(1 if self.tiny else warm + repeats):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            if self.tiny or number >= warm:
                times.append(time.perf_counter() - start)
        return 1e3 * sorted(times)[len(times) // 2]


def apart(one: Tensor, other: Tensor) -> float:
    """The norm of the difference relative to the other's norm."""
    reference = other.detach().double().cpu()
    difference = one.detach().double().cpu() - reference
    return float(difference.norm() / reference.norm().clamp(min=1e-12))


def gradient_of(tensor: Tensor) -> Tensor:
    """What a backward pass has left.

    Raises:
        ValueError: none has come to this tensor.
    """
    if tensor.grad is None:
        raise ValueError("no gradient has come to this tensor")
    return tensor.grad


def on_device(value: Any, device: torch.device) -> Any:
    """A dataclass of tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: on_device(getattr(value, f.name), device) for f in fields(value)}
        )
    return value


# ---- env: the card, and what it can do at most


def env(sitting: Sitting) -> None:
    from pipeline.foundation.gpus import capability_of, has_bf16
    from pipeline.models.compiled import missing_for_compiling
    from pipeline.training.peaks import peak_flops

    device = sitting.device
    for name, version in versions().items():
        sitting.figure(name, version)
    sitting.figure("cores", len(os.sched_getaffinity(0)))
    lacking = missing_for_compiling(device.type, capability_of(device))
    sitting.check("what compiling needs", lacking or "all there", not lacking)
    sitting.figure("Python headers", sysconfig.get_config_var("INCLUDEPY"))
    free = shutil.disk_usage("/dev/shm").free / 1e9 if Path("/dev/shm").is_dir() else 0.0  # noqa: S108
    sitting.check("shared memory free, GB", f"{free:.1f}", free > 1)
    dtype = torch.bfloat16 if sitting.on_gpu else torch.float32
    size = 256 if sitting.tiny else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rate = 2 * size**3 / sitting.milliseconds(lambda: left @ right) * 1e3
    sitting.figure(
        f"matrix products in {str(dtype).removeprefix('torch.')}, TFLOP/s", f"{rate / 1e12:.2f}"
    )
    if device.type == "cpu":
        return
    properties = torch.cuda.get_device_properties(device)
    sitting.figure("CUDA of this build", torch.version.cuda)
    sitting.figure("cuDNN", torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    sitting.figure("compute capability", f"{properties.major}.{properties.minor}")
    sitting.figure("memory, GB", f"{properties.total_memory / 1e9:.1f}")
    sitting.figure("bf16 arithmetic", has_bf16(device))
    peak = peak_flops(device)
    sitting.check("bf16 peak by our table, FLOP/s", peak, peak is not None)
    if peak:
        sitting.check("measured / peak", f"{rate / peak:.0%}", 0.3 < rate / peak <= 1.02)
    numbers = 2**16 if sitting.tiny else 2**28
    big, other = (torch.empty(numbers, device=device) for _ in range(2))
    seconds = sitting.milliseconds(lambda: other.copy_(big)) / 1e3
    sitting.figure("memory bandwidth, TB/s", f"{2 * big.nbytes / seconds / 1e12:.2f}")
    pinned = torch.empty(numbers, pin_memory=True)
    seconds = sitting.milliseconds(lambda: big.copy_(pinned, non_blocking=True)) / 1e3
    sitting.figure("pinned memory to the device, GB/s", f"{pinned.nbytes / seconds / 1e9:.1f}")


def card() -> dict[str, str]:
    """The first card of this machine, as the driver tells of it."""
    from pipeline.foundation.gpus import cards

    return {name: str(value) for name, value in asdict(cards()[0]).items()}


# ---- sdpa: which kernel attends, whether it is right, what a new shape costs


def sdpa(sitting: Sitting) -> None:
    batch, heads, longest = (3, 2, 20) if sitting.tiny else (257, 12, 128)
    for name, kernel in _kernels(sitting).items():
        with sitting.guarded(f"{name}: off from float64"):
            off = _attention_error(sitting, kernel, batch, heads, longest)
            sitting.check(f"{name}: off from float64 by", f"{off:.1e}", off < 2e-2)
        if sitting.on_gpu:
            for share in (0.1, 0.0625):
                with sitting.guarded(f"{name}: dropout {share}"):
                    dropped, total = _dropout(sitting, kernel, share)
                    sitting.check(
                        f"{name}: dropout {share} asked for",
                        f"{dropped:.4f} dropped, weights add up to {total:.4f}",
                        abs(dropped - share) < 0.004 and abs(total - 1) < 0.01,
                    )
            with sitting.guarded(f"{name}: 64 tokens and very low scores"):
                bad = _not_finite(sitting, kernel)
                what = f"{name}: 64 tokens and very low scores, gradients not finite"
                if name in ("as torch chooses", "cuDNN"):  # which students never attend by
                    sitting.figure(what, bad)
                else:
                    sitting.check(what, bad, bad == 0)
    with sitting.guarded("rows that see nothing"):
        query, key, value, valid = _attention_inputs(sitting, 4, 2, 40)
        place = torch.arange(40, device=sitting.device)
        near = (place[:, None] - place).abs() < 4
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=valid[:, None, None, :] & near
        )
        (out * valid[:, None, :, None]).sum().backward()  # type: ignore[no-untyped-call]
        finite = all(bool(torch.isfinite(gradient_of(x)).all()) for x in (key, value))
        sitting.check("windows beside rows that see nothing: gradients finite", finite, finite)
    if sitting.on_gpu:
        _chosen_kernels(sitting, batch, heads, longest)
        for name, allowed in (("cuDNN allowed", True), ("cuDNN forbidden", False)):
            torch.backends.cuda.enable_cudnn_sdp(allowed)
            times = [_new_shape(sitting, length) for length in range(41 + allowed, 61, 2)]
            median, most = sorted(times)[len(times) // 2], max(times)
            sitting.figure(f"a shape not seen before, {name}, ms", f"{median:.1f}, most {most:.1f}")
        torch.backends.cuda.enable_cudnn_sdp(True)


Kernel = Callable[[], contextlib.AbstractContextManager[None]]


def _kernels(sitting: Sitting) -> dict[str, Kernel]:
    """Ways to choose the kernel of attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from pipeline.models.packing import without_cudnn_attention

    kernels: dict[str, Kernel] = {
        "as students attend": without_cudnn_attention,
        "as torch chooses": contextlib.nullcontext,
        "math": lambda: sdpa_kernel(SDPBackend.MATH),
    }
    if sitting.on_gpu:
        kernels |= {
            "efficient": lambda: sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION),
            "cuDNN": lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
        }
    return kernels


def _attention_inputs(
    sitting: Sitting, batch: int, heads: int, longest: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    dtype = torch.bfloat16 if sitting.on_gpu else torch.float32
    query, key, value = (
        torch.randn(batch, heads, longest, 64).to(sitting.device, dtype).requires_grad_()
        for _ in range(3)
    )
    lengths = torch.randint(3, longest + 1, (batch,))
    valid = torch.arange(longest) < lengths[:, None]
    return query, key, value, valid.to(sitting.device)


def _attention_error(
    sitting: Sitting, kernel: Kernel, batch: int, heads: int, longest: int
) -> float:
    """The largest error of attention and its gradients, beside the formula in float64."""
    *inputs, valid = _attention_inputs(sitting, batch, heads, longest)
    counts = valid[:, None, :, None].cpu()
    wide = [x.detach().double().cpu().requires_grad_() for x in inputs]
    query, key, value = wide
    scores = (query @ key.transpose(-1, -2)) / math.sqrt(64)
    scores = scores.masked_fill(~valid[:, None, None, :].cpu(), -math.inf)
    expected = scores.softmax(-1) @ value
    upstream = torch.randn_like(expected) * counts
    expected.backward(upstream)  # type: ignore[no-untyped-call]
    with kernel():
        out = functional.scaled_dot_product_attention(
            inputs[0], inputs[1], inputs[2], attn_mask=valid[:, None, None, :]
        )
        out.backward(upstream.to(out))  # type: ignore[no-untyped-call]
    errors = [apart(out * counts.to(out.device), expected * counts)]
    errors += [apart(gradient_of(x), gradient_of(w)) for x, w in zip(inputs, wide, strict=True)]
    return max(errors)


def _dropout(sitting: Sitting, kernel: Kernel, share: float) -> tuple[float, float]:
    """Share of attention weights that are dropped, and the mean of their sum.

    Equal scores make equal weights, and the identity as values shows each of them.
    """
    shape = (64, 4, 64, 64)
    zeros = torch.zeros(shape, device=sitting.device, dtype=torch.bfloat16)
    identity = torch.eye(64, device=sitting.device, dtype=torch.bfloat16).expand(shape).contiguous()
    everything = torch.ones(64, 1, 1, 64, device=sitting.device, dtype=torch.bool)
    with kernel():
        weights = functional.scaled_dot_product_attention(
            zeros, zeros, identity, attn_mask=everything, dropout_p=share
        ).float()
    return float((weights == 0).float().mean()), float(weights.sum(-1).mean())


def _not_finite(sitting: Sitting, kernel: Kernel) -> int:
    """Gradients that are not finite for 64 tokens with a mask and a log-sum-exp below -88."""
    query, key, value, valid = _attention_inputs(sitting, 8, 2, 64)
    with torch.no_grad():
        query[..., 0], key[..., 0] = 1.0, -120.0 * math.sqrt(64)
    with kernel():
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=valid[:, None, None, :]
        )
        out.sum().backward()  # type: ignore[no-untyped-call]
    return sum(int((~torch.isfinite(gradient_of(x))).sum()) for x in (query, key, value))


def _chosen_kernels(sitting: Sitting, batch: int, heads: int, longest: int) -> None:
    choose = getattr(torch, "_fused_sdp_choice", None)  # private
    if choose is None:
        sitting.figure("kernel that torch chooses", "this torch does not say")
        return
    query, key, value, valid = _attention_inputs(sitting, batch, heads, longest)
    mask = valid[:, None, None, :]
    with sitting.guarded("kernel that torch chooses"):
        for dropout in (0.0, 0.1):
            number = int(choose(query, key, value, mask, dropout, False))
            sitting.figure(f"a student's kernel, dropout {dropout}", BACKENDS[number])
        half = [x.half() for x in (query, key, value)]
        number = int(choose(*half, None, 0.0, False))
        sitting.figure("the teacher's kernel (float16, no mask)", BACKENDS[number])


def _new_shape(sitting: Sitting, longest: int) -> float:
    query, key, value, valid = _attention_inputs(sitting, 32, 12, longest)
    sitting.wait()
    start = time.perf_counter()
    out = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=valid[:, None, None, :]
    )
    out.sum().backward()  # type: ignore[no-untyped-call]
    sitting.wait()
    return 1e3 * (time.perf_counter() - start)


# ---- parity: the same numbers as on the CPU


def parity(sitting: Sitting) -> None:
    from pipeline.distillation.objectives import OBJECTIVES
    from pipeline.extraction.teacher import load_teacher
    from tests.helpers.whispers import batch_of, speechlike

    teacher_folder = whisper(sitting)
    sizes = (96_000, 400) if sitting.tiny else (240_000, 96_000, 30_000, 400)
    waves, lengths = batch_of([speechlike(size, seed) for seed, size in enumerate(sizes)])
    limits: dict[EncoderPrecision, float] = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 5e-2}
    for pooling in ("fixed750", "length"):
        exact = load_teacher(teacher_folder, precision="float32", pooling=pooling)
        expected = exact.encode(waves, lengths)
        for precision, limit in limits.items():
            with sitting.guarded(f"teacher, {pooling}, {precision}"):
                teacher = load_teacher(
                    teacher_folder, device=sitting.device, precision=precision, pooling=pooling
                )
                vectors = teacher.encode(waves, lengths).cpu()
                off = apart(vectors, expected)
                cosine = float(functional.cosine_similarity(vectors, expected).min())
                sitting.check(
                    f"teacher, {pooling}, {precision}: off by",
                    f"{off:.1e}, smallest cosine {cosine:.6f}",
                    off < limit,
                )
    with sitting.guarded("log-mel"):
        off = apart(teacher.log_mel(waves.to(sitting.device)), exact.log_mel(waves))
        sitting.check("log-mel: off by", f"{off:.1e}", off < 1e-5)
    for name in OBJECTIVES:
        patterns = ("vector", "batch", "token", "sequence") if name == "nst" else ("",)
        for pattern in patterns:
            what = f"objective {name} {pattern}".strip()
            with sitting.guarded(what):
                off = _objective_error(sitting, name, pattern)
                sitting.check(f"{what}: off by", f"{off:.1e}", off < 1e-3)


def _objective_error(sitting: Sitting, name: str, pattern: str) -> float:
    """Difference of an objective's loss and gradient here from those on the CPU, in float32."""
    from tests.helpers.kd_batches import make_batch, make_objective

    lengths = tuple(3 + 5 * n % 17 for n in range(24))
    batch = make_batch(96, 80, lengths, negatives=500)
    options: dict[str, Any] = {"nst_pattern": pattern} if pattern else {}
    objective = make_objective(name, 96, 80, projection="mlp", **options).float()
    losses, gradients = [], []
    for device in (torch.device("cpu"), sitting.device):
        here = on_device(batch, device)
        states = batch.states_ND.float().to(device).requires_grad_()
        whole = replace(
            here.whole,
            teacher_BE=here.whole.teacher_BE.float(),
            negative_KE=here.whole.negative_KE.float(),
        )
        loss = objective.to(device)(replace(here, states_ND=states, whole=whole))
        loss.backward()
        losses.append(loss)
        gradients.append(gradient_of(states))
    return max(apart(losses[1], losses[0]), apart(gradients[1], gradients[0]))


def whisper(sitting: Sitting) -> str:
    """A folder with a Whisper of random weights: whisper-small's shape, or a tiny one."""
    from bench.extract import random_whisper
    from tests.helpers.whispers import save_random_whisper

    folder = sitting.folder / "whisper"
    if sitting.tiny:
        save_random_whisper(folder, layers=1, heads=1)
    else:
        torch.manual_seed(0)
        random_whisper("small", folder)
    return str(folder)


# ---- compile: every kind of student, compiled and not


def compile_kinds(sitting: Sitting) -> None:
    import transformers

    from pipeline.models.compiled import BatchShape, compile_forward
    from pipeline.models.packing import pack
    from pipeline.models.student import Student

    width = 64 if sitting.tiny else 256
    size = {
        "vocab_size": 300, "hidden_size": width, "num_hidden_layers": 1 if sitting.tiny else 2,
        "num_attention_heads": width // 64, "intermediate_size": 2 * width,
    }  # fmt: skip
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    kinds = {
        "BERT": transformers.BertConfig(**size, **plain),
        "RoBERTa": transformers.RobertaConfig(**size, **plain, max_position_embeddings=140),
        "DistilBERT": transformers.DistilBertConfig(
            vocab_size=300, dim=width, n_layers=2, n_heads=width // 64, hidden_dim=2 * width,
            dropout=0.0, attention_dropout=0.0,
        ),
        "ModernBERT": transformers.ModernBertConfig(
            **size, **ids, local_attention=16, cls_token_id=1, sep_token_id=2
        ),
    }  # fmt: skip
    for name in ["BERT"] if sitting.tiny else kinds:
        with sitting.guarded(name):
            torch.manual_seed(0)
            model = transformers.AutoModelForMaskedLM.from_config(kinds[name])
            student = Student(model).to(sitting.device)
            lengths = torch.tensor([64, 30, 7, 49])
            packed = pack(torch.randint(5, 300, (int(lengths.sum()),)), lengths).to(sitting.device)
            upstream = torch.randn(len(packed.ids_N), width, device=sitting.device)
            start = time.monotonic()
            states, gradients = [], []
            for forward in (
                student,
                compile_forward(student.encoder, [BatchShape(5, 256, 64)], student.draws),
            ):
                student.zero_grad()
                half = torch.autocast(sitting.device.type, torch.bfloat16, enabled=sitting.on_gpu)
                with half:
                    out = forward(packed)
                out.backward(upstream.to(out.dtype))
                states.append(out)
                gradients.append(
                    torch.cat(
                        [p.grad.flatten() for p in student.parameters() if p.grad is not None]
                    )
                )
            off, worst = apart(states[1], states[0]), apart(gradients[1], gradients[0])
            sitting.check(
                f"{name}: states and gradients off by",
                f"{off:.1e}, {worst:.1e}; {time.monotonic() - start:.0f} s to compile",
                off < 2e-2 and worst < 8e-2,
            )


# ---- train: a step here as on the CPU, its waits, and the same bits again


def run_settings(sitting: Sitting, dropout: float) -> dict[str, Any]:
    """Settings of a short distillation run from a made-up cache."""
    import transformers

    from tests.helpers.caches import make_cache

    if not (sitting.folder / "cache").exists():
        make_cache(sitting.folder / "cache", [60, 40], 64, words=60)
    student = sitting.folder / f"student-{dropout}"
    transformers.BertConfig(
        hidden_size=128, num_hidden_layers=1 if sitting.tiny else 2, num_attention_heads=2,
        intermediate_size=256, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    ).save_pretrained(student)  # fmt: skip
    return {
        "cache": str(sitting.folder / "cache"), "student": str(student / "config.json"),
        "kd": ["crd"], "crd_negatives": 20, "batch": 16, "vocab_size": 200, "held_out": 0.1,
        "epochs": 2.0 if sitting.tiny else 4.0, "log_every": 1, "measure_every": 5,
        "learning_rate": 1e-3, "device": sitting.device.type, "compile": "no",
        "precision": "float32", "checkpoint_minutes": 0.0,
    }  # fmt: skip


def run_of(out: Path, **changes: Any) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The logged lines of a run of `speechkd distill`, and the student's weights if it finished."""
    from safetensors.torch import load_file

    from pipeline.distillation.settings import DistillSettings
    from stages.distill import run

    run(DistillSettings(out=out, **changes))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    file = out / "student" / "model.safetensors"
    return lines, load_file(file) if file.is_file() else {}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models have the same weights, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def train(sitting: Sitting) -> None:
    with sitting.guarded("one step"):
        for precision, limit in (("float32", 2e-4), ("bf16", 5e-2)):
            loss, gradient, name = _step_error(sitting, precision)
            sitting.check(
                f"one step in {precision} beside float32 on the CPU: losses off by",
                f"{loss:.1e}, gradients at most {gradient:.1e} ({name})",
                loss < limit and gradient < 20 * limit,
            )
    common = run_settings(sitting, 0.0)
    with sitting.guarded("masks and negatives of both devices"):
        here, _ = run_of(sitting.folder / "here", **common)
        there, _ = run_of(sitting.folder / "cpu", **{**common, "device": "cpu"})
        off = max(
            abs(a["loss"] - b["loss"]) / abs(b["loss"])
            for a, b in zip(here, there, strict=True)
            if "loss" in a
        )
        sitting.check("losses of a run here and on the CPU: off by", f"{off:.1e}", off < 1e-2)
    with sitting.guarded("a deterministic run again"):
        dropped = {**run_settings(sitting, 0.1), "deterministic": True}
        dropped["precision"] = sitting.precision
        _, whole = run_of(sitting.folder / "whole", **dropped)
        parts = sitting.folder / "parts"
        run_of(parts, **dropped, max_steps=4)
        _, resumed = run_of(parts, **dropped)
        same = same_bits(whole, resumed)
        sitting.check(
            "stopped after 4 steps and resumed", "the same bits" if same else "others", same
        )
    if sitting.on_gpu:
        with sitting.guarded("host waits of a step"):
            sitting.figure("host waits of a step, counted by torch", _waits_of_a_step(sitting))


def _step_error(sitting: Sitting, precision: str) -> tuple[float, float, str]:
    """Errors of one batch's losses and gradients, all objectives at once, with the same weights."""
    from pipeline.cache.store import TeacherCache
    from pipeline.distillation.assembly import assemble
    from pipeline.distillation.settings import DistillSettings

    changes = {
        **run_settings(sitting, 0.0), "kd": ["crd", "infonce", "nst", "l1", "cosine"],
        "gamma": [1.0] * 5, "kd_pass": "clean",
    }  # fmt: skip
    losses: list[dict[str, float]] = []
    gradients: list[dict[str, Tensor]] = []
    batch = None
    for device in (torch.device("cpu"), sitting.device):
        settings = DistillSettings(
            out=sitting.folder / "step", **{**changes, "device": device.type}
        )
        parts = assemble(settings, TeacherCache.open(changes["cache"]), device)
        batch = batch or parts.workload.epoch(0)(0)
        half = precision == "bf16" and len(losses) == 1
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            values = parts.distillation(batch.to(device), measure=True)
        values["loss"].backward()
        losses.append({name: float(value.detach()) for name, value in values.items()})
        parameters = parts.distillation.named_parameters()
        gradients.append({name: p.grad for name, p in parameters if p.grad is not None})
    cpu, here = losses
    off = max(abs(here[k] - v) / max(1e-2, abs(v)) for k, v in cpu.items() if k.startswith("loss"))
    worst = max(
        (apart(gradients[1][name], value), name)
        for name, value in gradients[0].items()
        if float(value.norm()) > 1e-6
    )
    return off, *worst


def _waits_of_a_step(sitting: Sitting) -> float:
    """Operations per step that made the host wait, by torch's own debug mode."""
    setup = benchmark(sitting)
    counts = []
    for steps in (5, 15):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                speed(replace(setup, steps=steps, compile=False), "crd")
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(w.message) for w in caught))
    warm = {5: 2, 15: 3}  # bench.distill runs a fifth of the steps, and at least two, beforehand
    return round((counts[1] - counts[0]) / (15 + warm[15] - 5 - warm[5]), 2)


# ---- pretrain: the modules of SPLAT, CTAL and WhisBERT here as on the CPU


def pretrain(sitting: Sitting) -> None:
    from pipeline.pretraining.ctal.settings import CtalSettings
    from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings
    from pipeline.pretraining.whisbert.settings import WhisbertSettings
    from stages import pretrain_ctal, pretrain_splat, pretrain_whisbert
    from tests.helpers.caches import make_sequence_cache

    shards, folder = [30, 30], sitting.folder

    def cache(name: str, kind: Any, **changes: Any) -> str:
        return str(make_sequence_cache(folder / name, shards, kind, **changes).folder.path)

    frames = cache("frames", "whisper-mel", width=80, most_rows=120, hop_samples=160)
    mels = cache("mels", "ctal-mel", width=160, most_rows=120, hop_samples=200)
    text = cache(
        "text", "text", width=16, most_rows=9, dtype="float32", teacher="made-up",
        teacher_sha256="0" * 64, layer=2,
    )  # fmt: skip
    size: dict[str, Any] = {"layers": 2, "width": 64, "heads": 2}
    common: dict[str, Any] = {
        "batch": 8, "epochs": 2.0, "held_out": 0.2, "log_every": 1, "measure_every": 2,
        "learning_rate": 1e-3, "checkpoint_minutes": 0.0,
    }  # fmt: skip

    def run(name: str, device: str, precision: str) -> list[dict[str, Any]]:
        out = folder / f"{name}-{device}-{precision}".replace(" ", "-")
        options: dict[str, Any] = {"out": out, "device": device, "precision": precision, **common}
        if name == "masked audio":
            pretrain_splat.masked_audio(MaskedAudioSettings(frames=frames, **size, **options))
        elif name == "SPLAT":
            speech = str(folder / "masked-audio-cpu-float32")
            pretrain_splat.splat(SplatSettings(frames=frames, text=text, init=speech, **options))
        elif name == "CTAL":
            options["hold_out_by"] = "recording"
            pretrain_ctal.run(CtalSettings(cache=mels, vocab_size=300, **size, **options))
        else:
            options |= {"student": "bert-tiny", "vocab_size": 200, "max_tokens": 32, "width": 64}
            options |= {"heads": 2, "audio_layers": 1, "fusion_layers": 1}
            pretrain_whisbert.run(WhisbertSettings(cache=frames, **options))
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if "loss" in line]

    for name in ("masked audio", "SPLAT", "CTAL", "WhisBERT"):
        with sitting.guarded(name):
            on_cpu = run(name, "cpu", "float32")
            bounds = {"float32": 1e-2, "bf16": 1e-1}
            if not sitting.on_gpu:
                del bounds["float32"]  # it is what is compared with
            for precision, bound in bounds.items():
                lines = run(name, sitting.kind, precision)
                off = max(
                    abs(here[key] - there[key]) / max(1e-2, abs(there[key]))
                    for here, there in zip(lines, on_cpu, strict=True)
                    for key in there
                    if key.startswith("loss")
                )
                sitting.check(
                    f"{name} in {precision} beside float32 on the CPU: losses of "
                    f"{len(lines)} steps off by",
                    f"{off:.1e}",
                    off < bound,
                )


# ---- what_if: where a step's time goes, and what each change would give


def benchmark(sitting: Sitting, student: str = "bert-base") -> "Setup":
    """The setting of bench/distill.py: the paper's lengths and batch."""
    from bench import distill as bench

    device = sitting.device
    clips, steps = (8, 2) if sitting.tiny else (256, 40)
    corpus = bench.make_corpus(
        2_000 if sitting.tiny else 20_000, 64 if sitting.tiny else 768, device
    )
    return bench.Setup(
        "bert-tiny" if sitting.tiny else student, clips, steps, device, corpus,
        bench.make_tokenizer(), sitting.precision, not sitting.tiny,
    )  # fmt: skip


def speed(setup: "Setup", kd: str, negatives: int = 0) -> float:
    """Real tokens per second of the step loop."""
    from bench import distill as bench

    torch._dynamo.reset()
    return float(bench.ours(setup, kd, negatives).wall)


def what_if(sitting: Sitting) -> None:
    from bench.distill import MAX_TOKENS
    from pipeline.distillation.costs import flops_per_token
    from pipeline.models.student import build_student
    from pipeline.training.peaks import peak_flops

    setup = benchmark(sitting)
    student = build_student(setup.student, setup.tokenizer, MAX_TOKENS)
    mean = float(setup.corpus.lengths_C.double().mean())
    flops, peak = flops_per_token(student, mean, 0.15), peak_flops(sitting.device)

    def go(name: str, kd: str = "none", negatives: int = 0, **changes: Any) -> None:
        changed = replace(setup, **changes)
        name += ", compiled" if changed.compile else ", uncompiled"
        with sitting.guarded(name):
            if sitting.on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            rate = speed(changed, kd, negatives)
            figures = [
                f"{rate:,.0f} tokens/s",
                f"{1e3 * mean * setup.clips / rate:.2f} ms per step",
            ]
            if peak and changed.student == setup.student:
                figures.append(f"MFU {rate * flops / peak:.1%}")
            if sitting.on_gpu:
                figures.append(f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most")
            sitting.figure(name, ", ".join(figures))

    negatives = 64 if sitting.tiny else 16_384
    many = f"crd with {negatives:,} negatives"
    go(many, "crd", negatives, compile=False)
    if not sitting.on_gpu:
        return
    # compiling takes longer than all that is measured, so few ways are compiled
    with mock.patch("pipeline.training.loop.ieee_float32", tf32):
        go(f"{many}, TF32 products", "crd", negatives, compile=False)
    go("none", compile=False)
    go("nst", "nst", compile=False)
    go("crd", "crd", compile=False)
    with cudnn_attention():
        go("none, cuDNN attention allowed", compile=False)
    go("none in float32", precision="float32", compile=False)
    go("none, bert-mini", student="bert-mini", compile=False)
    go("none, bert-mini", student="bert-mini")
    go("none")
    with cudnn_attention():
        go("none, cuDNN attention allowed")


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    """While the block runs, matrix products of float32 round their factors to TF32."""
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def cudnn_attention() -> Iterator[None]:
    """While the block runs, students may attend by cuDNN's kernels, which the project forbids."""
    with (
        mock.patch("pipeline.models.packing.without_cudnn_attention", contextlib.nullcontext),
        mock.patch("pipeline.models.compiled.without_cudnn_attention", contextlib.nullcontext),
    ):
        yield


# ---- extract, distill: the benchmarks of both stages


def run_benchmark(sitting: Sitting, name: str, *words: str) -> dict[str, Any]:
    """Run bench/NAME.py in this process; return the JSON that it writes."""
    import importlib

    out = sitting.folder / f"{name}.json"
    module = importlib.import_module(f"bench.{name}")
    before, sys.argv = sys.argv, [f"bench/{name}.py", *words, "--out", str(out)]
    try:
        module.main()
    finally:
        sys.argv = before
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def extract(sitting: Sitting) -> None:
    ways = ["bare encoder (as used)", "extract-teacher"]
    if sitting.tiny:
        words = ["--teacher", whisper(sitting), "--clips", "2", "--batch-size", "2"]
        words += ["--workers", "0"]
    else:
        words = ["--teacher", "random:small", "--clips", "8192", "--batch-size", "64"]
        ways += ["bare Hugging Face encoder", "extract-teacher --encoder dummy", "log-mel alone"]
    if sitting.on_gpu:
        words += ["--devices", "0", "--precision", "float16"]
    with sitting.guarded("bench/extract.py"):
        record = run_benchmark(
            sitting, "extract", *words, "--rounds", "1" if sitting.tiny else "2",
            "--only", ",".join(ways),
        )  # fmt: skip
        rows = record["ways"]
        for way, row in rows.items():
            sitting.figure(
                way,
                f"{row['audio_seconds_per_s']:,.0f} audio-s/s, "
                f"{row['windows_per_s']:,.1f} clips/s, "
                f"{row['of_matmul_rate']:.0%} of the rate of matrix products",
            )
        ratio = rows["extract-teacher"]["windows_per_s"] / rows[ways[0]]["windows_per_s"]
        if sitting.tiny:
            sitting.figure("the whole command / bare encoder", f"{ratio:.2f}")
        else:
            sitting.check("the whole command / bare encoder", f"{ratio:.2f}", ratio >= 0.9)


def distill(sitting: Sitting) -> None:
    words = ["--rounds", "1"]
    ways = ["none", "Trainer, dynamic, grouped"]
    if sitting.tiny:
        words += ["--student", "bert-tiny", "--batch-size", "8", "--steps", "1"]
        ways = ["none"]
    else:
        words += ["--steps", "30"]
        ways += ["Trainer, padded to 128"]
    with sitting.guarded("bench/distill.py"):
        record = run_benchmark(sitting, "distill", *words, "--ways", *ways)
        rates = record["tokens_per_s"]
        for way, rate in rates.items():
            ratio = rates["none"] / rate
            sitting.figure(way, f"{rate:,.0f} tokens/s; ours is {ratio:.2f} times as fast")
        sitting.figure("the paper's 40 epochs, min", f"{record['paper_minutes']:,.0f}")


# ---- finetune: one cell


def finetune(sitting: Sitting) -> None:
    from transformers import BertConfig, BertModel

    from pipeline.finetuning.inputs import TextInputs
    from pipeline.finetuning.settings import FinetuneSettings
    from pipeline.finetuning.trainer import train_cell
    from pipeline.models.packing import use_packed_attention
    from pipeline.tasks.mosei.questions import TASKS
    from pipeline.tasks.task import Question

    task, count = TASKS["sentiment7"], 48 if sitting.tiny else 4_000
    small = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1}
    torch.manual_seed(0)
    encoder = BertModel(BertConfig(**(small if sitting.tiny else {})), add_pooling_layer=False)
    use_packed_attention(encoder)
    encoder.to(sitting.device)
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(rng.gamma(2.0, 12.0, 2 * count)) + 3, 4, 128).astype(int)
    ids = [
        np.concatenate([[101], rng.integers(1_000, 30_000, n - 2), [102]]).astype(np.int32)
        for n in lengths
    ]
    labels = rng.integers(0, len(task.outputs), 2 * count)
    question = Question(
        task,
        {"train": range(count), "valid": [], "test": range(count, 2 * count)},
        {"train": labels[:count], "valid": labels[:0], "test": labels[count:]},
        [],
    )
    recipe = FinetuneSettings(
        checkpoint=["made-up"], out=sitting.folder, epochs=1, device=sitting.kind,
        precision=sitting.precision,
    ).recipe()  # fmt: skip
    ways: list[tuple[str, Callable[[], contextlib.AbstractContextManager[None]]]]
    ways = [("as it is", contextlib.nullcontext)]
    if sitting.on_gpu:
        ways += [("again", contextlib.nullcontext), ("cuDNN attention allowed", cudnn_attention)]
        ways += [("cuDNN attention allowed, shapes seen before", cudnn_attention)]
    for name, context in ways:
        with sitting.guarded(name), context():
            cell = train_cell(encoder, TextInputs(tuple(ids), 0), question, recipe, 0)
            loss = cell.epochs[-1]["train_loss"]
            sitting.check(
                f"{name}: {count:,} clips trained on and {count:,} scored, s",
                f"{cell.seconds:.1f}, loss {loss:.3f}",
                math.isfinite(loss),
            )


# ---- ddp, sittings: runs in processes of their own


def in_child(
    work: Callable[[], Result], environment: Mapping[str, str] | None = None
) -> Callable[[], Result]:
    """Start a function in a forked process; return one that waits for its result."""
    receiver, sender = FORK.Pipe(duplex=False)

    def body() -> None:
        os.environ.update(environment or {})
        try:
            sender.send((True, work()))
        except BaseException as error:
            traceback.print_exc()
            sender.send((False, f"{type(error).__name__}: {error}"))

    process = FORK.Process(target=body, daemon=False)
    process.start()
    sender.close()

    def result() -> Result:
        try:
            succeeded, value = receiver.recv()
        except EOFError:
            succeeded, value = False, "the process ended without a word"
        process.join()
        if not succeeded:
            raise RuntimeError(value)
        outcome: Result = value
        return outcome

    return result


def losses_of(out: Path, **changes: Any) -> list[float]:
    """The losses of a run, which can be sent between processes."""
    return [line["loss"] for line in run_of(out, **changes)[0] if "loss" in line]


def ddp(sitting: Sitting) -> None:
    common = run_settings(sitting, 0.0)
    gpus = in_child(torch.cuda.device_count)()
    alone = in_child(lambda: losses_of(sitting.folder / "alone", **common))()
    counts = sorted({1, min(2, gpus), gpus}) if sitting.on_gpu else [2]
    for count in counts:
        name = f"{count} processes by {'NCCL' if sitting.on_gpu else 'Gloo'}"
        with sitting.guarded(name):
            together = _together(sitting, count, common)
            off = max(abs(a - b) / abs(b) for a, b in zip(together, alone, strict=True))
            sitting.check(f"{name}, losses beside those of one: off by", f"{off:.1e}", off < 1e-2)
    if gpus == 1:
        sitting.figure("two GPUs", "not run: there is one")


def _together(sitting: Sitting, count: int, common: dict[str, Any]) -> list[float]:
    """Losses of a run by several processes, with the variables that torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    out = sitting.folder / f"together-{count}"
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    shared["LOCAL_WORLD_SIZE"] = str(count)
    results = [
        in_child(
            lambda: losses_of(out, **common),
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    losses = [result() for result in results]
    return losses[0]


def sittings(sitting: Sitting) -> None:
    common = {**run_settings(sitting, 0.1), "deterministic": True}
    common["precision"] = sitting.precision
    if not sitting.tiny:
        common["compile"] = "yes"

    def digest(name: str, **changes: Any) -> str:
        import hashlib

        _, weights = run_of(sitting.folder / name, **common, **changes)
        together = hashlib.sha256()
        for key in sorted(weights):
            together.update(weights[key].contiguous().view(torch.uint8).numpy().tobytes())
        return together.hexdigest()

    with sitting.guarded("runs in processes of their own"):
        start = time.monotonic()
        whole = in_child(lambda: digest("whole"))()
        sitting.figure("a run from start to finish, s", f"{time.monotonic() - start:.0f}")
        again = whole if sitting.tiny else in_child(lambda: digest("again"))()
        in_child(lambda: digest("parts", max_steps=3))()
        parts = in_child(lambda: digest("parts"))()
        sitting.check("once more", "the same bits" if again == whole else "others", again == whole)
        sitting.check(
            "stopped between", "the same bits" if parts == whole else "others", parts == whole
        )


PARTS = {
    "env": Part(env, "whether --compile auto compiles here; the real ceiling for utilisation", 3),
    "sdpa": Part(
        sdpa, "whether cuDNN may attend: dropout as asked for, finite gradients, new shapes", 4
    ),
    "parity": Part(
        parity, "whether --precision means what it says in the teacher; right objectives", 4
    ),
    "compile": Part(compile_kinds, "when --compile auto should compile", 6),
    "train": Part(train, "whether a whole step is right; bits that stay; waits of the host", 6),
    "pretrain": Part(pretrain, "whether SPLAT, CTAL and WhisBERT are trained as on a CPU", 6),
    "what_if": Part(
        what_if, "which change pays: compiling, attention's kernel, TF32 for negatives", 12
    ),
    "extract": Part(
        extract, "what binds stage one: the encoder, or reading (0.9 of the bare encoder wanted)", 8
    ),
    "finetune": Part(
        finetune, "whether cuDNN may attend where each batch has a shape of its own", 6
    ),
    "ddp": Part(ddp, "whether several processes learn what one does", 6),
    "sittings": Part(sittings, "whether a run that is stopped stays the same, compiled too", 8),
    "distill": Part(distill, "the factor over Hugging Face's Trainer; the paper's 40 epochs", 8),
}


def run_part(name: str, device: torch.device, tiny: bool, log: Path) -> list[Line]:
    """Run a part in a process of its own, and print its lines as they come."""
    part = PARTS[name]
    print(f"{name}: decides {part.decides}", flush=True)
    receiver, sender = FORK.Pipe(duplex=False)

    def body() -> None:
        receiver.close()
        with log.open("a") as file, tempfile.TemporaryDirectory() as folder:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
            torch.set_num_threads(1 if tiny else torch.get_num_threads())
            sitting = Sitting(name, device, tiny, Path(folder), sender.send)
            with sitting.guarded("the part as a whole"):
                part.run(sitting)

    start, lines = time.monotonic(), []
    process = FORK.Process(target=body)
    process.start()
    sender.close()
    with contextlib.suppress(EOFError):
        while receiver.poll(max(0.0, start + 60 * part.minutes - time.monotonic())):
            lines.append(receiver.recv())
            print(lines[-1], flush=True)
        process.terminate()
        lines.append(Line(name, "time", f"stopped after {part.minutes:g} min", False))
        print(lines[-1], flush=True)
    process.join()
    if process.exitcode not in (0, -15):
        lines.append(Line(name, "its process", f"ended with status {process.exitcode}", False))
        print(lines[-1], flush=True)
    lines.append(Line(name, "took, s", f"{time.monotonic() - start:.1f}"))
    print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="as small as can be; runs on a CPU too")
    parser.add_argument("--project", action="store_true", help="print projections and stop")
    parser.add_argument("--out", type=Path, help="JSON file; by default one in bench/results/")
    options = parser.parse_args()
    if options.project:
        from bench.projections import page

        print(page())
        return
    device = torch.device("cuda:0" if in_child(torch.cuda.is_available)() else "cpu")
    if device.type == "cpu" and not options.tiny:
        from pipeline.foundation.gpus import why_none

        sys.exit(f"torch finds no GPU: {why_none()}. Or --tiny, which runs the same on a CPU.")
    machine = card() if device.type == "cuda" else {"name": "CPU"}
    out = options.out or RESULTS / f"gpu-{machine['name'].replace(' ', '-')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    log = out.with_suffix(".log")
    print(", ".join(f"{name} {value}" for name, value in {**machine, **versions()}.items()))
    print(f"commit {git_commit()}; everything else that is printed goes to {log}")
    record: dict[str, Any] = {"card": machine, "versions": versions(), "parts": {}}
    if out.is_file():
        before = json.loads(out.read_text())
        if all(before[key] == record[key] for key in ("card", "versions")):
            record = before
    lines: list[Line] = []
    for name in options.parts:
        of_part = run_part(name, device, options.tiny, log)
        lines += of_part
        record["parts"][name] = {
            "decides": PARTS[name].decides, "commit": git_commit(), "argv": sys.argv,
            "lines": [{k: v for k, v in asdict(line).items() if k != "part"} for line in of_part],
        }  # fmt: skip
        out.write_text(json.dumps(record, indent=1) + "\n")
    failed = [line for line in lines if line.passed is False]
    passed = sum(line.passed is True for line in lines)
    print(f"{passed} passed, {len(failed)} failed; written to {out}")
    for line in failed:
        print(f"  {line.part}: {line.name}: {line.value}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
