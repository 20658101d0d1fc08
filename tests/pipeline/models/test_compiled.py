"""Padding to one shape changes no state and no gradient."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch._dynamo
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM

from pipeline.models import compiled
from pipeline.models.compiled import (
    BatchShape,
    _Padded,
    compile_forward,
    missing_for_compiling,
    pad_to_shape,
)
from pipeline.models.lengths import Band, Bands
from pipeline.models.packing import encode_packed, pack
from pipeline.models.student import Student
from tests.pipeline.models.test_packing import CONFIGS

SHAPE = BatchShape(sequences=5, tokens=64, longest=20)
MISSING = missing_for_compiling("cpu")


def make_student(kind):
    torch.manual_seed(0)
    return Student(AutoModelForMaskedLM.from_config(deepcopy(CONFIGS[kind]))).eval()


def make_packed(lengths):
    source = torch.Generator().manual_seed(1)
    return pack(torch.randint(5, 99, (sum(lengths),), generator=source), torch.tensor(lengths))


def padded_forward(student, packed):
    ids_N, offset_N, source_G, place_N, valid_BL = pad_to_shape(packed, SHAPE)
    band = Band(SHAPE.sequences + 1, SHAPE.longest, valid_BL)
    hidden_ND = encode_packed(
        student.encoder, _Padded(ids_N, offset_N, Bands((band,), source_G, place_N))
    )
    return hidden_ND[: len(packed.ids_N)]


def states_and_gradients(student, forward, packed):
    student.zero_grad()
    hidden_ND = forward(packed)
    weight_ND = torch.randn(hidden_ND.shape, generator=torch.Generator().manual_seed(2))
    (hidden_ND * weight_ND).sum().backward()
    found = {n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}
    return hidden_ND.detach(), found


def assert_same(student, forward, packed):
    hidden_ND, gradients = states_and_gradients(student, student, packed)
    padded_ND, padded_gradients = states_and_gradients(student, forward, packed)
    torch.testing.assert_close(padded_ND, hidden_ND, atol=1e-5, rtol=1e-5)
    assert padded_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            padded_gradients[name], gradient, atol=1e-5 * max(scale, 1), rtol=1e-4, msg=name
        )


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("lengths", [[3, 5, 20, 1, 7], [1], [20, 20, 20, 2, 2], [4, 4]])
def test_padding_to_a_shape_changes_neither_states_nor_gradients(kind, lengths):
    student = make_student(kind)
    assert_same(student, lambda packed: padded_forward(student, packed), make_packed(lengths))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5).filter(lambda x: sum(x) <= 64))
def test_every_batch_has_the_same_shape(lengths):
    packed = make_packed(lengths)
    assert SHAPE.holds(packed)
    shapes = [tuple(tensor.shape) for tensor in pad_to_shape(packed, SHAPE)]
    assert shapes == [(64,), (64,), (120,), (64,), (6, 20)]


@pytest.mark.parametrize("lengths", [[1] * 6, [20, 20, 20, 5], [21]])
def test_what_does_not_fit_is_known(lengths):
    assert not SHAPE.holds(make_packed(lengths))


def test_a_batch_takes_the_smallest_shape_that_holds_it_and_no_cudnn_attention(monkeypatch):
    seen = []

    def compiled(forward, **_):
        def run(ids_N, *rest):
            seen.append((len(ids_N), torch.backends.cuda.cudnn_sdp_enabled()))
            return forward(ids_N, *rest)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    student = make_student("bert")
    fast = compile_forward(student.encoder, (replace(SHAPE, tokens=40), SHAPE), student.draws)
    for lengths in ([4, 4], [20, 20], [20, 20, 1], [21, 3]):
        assert_same(student, fast, make_packed(lengths))
    assert seen == [(40, False), (40, False), (64, False)]
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize(
    ("device", "variable", "names"), [("cpu", "CXX", "g++"), ("cuda", "CC", "gcc or clang")]
)
def test_what_compiling_lacks_is_told(device, variable, names, monkeypatch, tmp_path):
    (tmp_path / "Python.h").touch()
    for name in ("g++", "clang", "mycc"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr("sysconfig.get_config_var", {"INCLUDEPY": str(tmp_path)}.__getitem__)
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiled, "find_spec", lambda _: "a package")
    assert missing_for_compiling(device) == ""
    monkeypatch.setenv(variable, "mycc -m64")
    assert missing_for_compiling(device) == ""
    monkeypatch.setenv(variable, "nocc -m64")
    assert missing_for_compiling(device) == "the compiler nocc -m64"
    monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", "")
    assert missing_for_compiling(device) == f"the compiler {names}"
    (tmp_path / "Python.h").unlink()
    assert missing_for_compiling(device) == f"the compiler {names} and {tmp_path}/Python.h"
    monkeypatch.setattr(compiled, "find_spec", lambda _: None)
    assert missing_for_compiling(device).endswith("Python.h and Triton") == (device == "cuda")


def test_a_gpu_before_triton_is_not_compiled_for(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda _: "a package")
    assert "capability 7.0, not 6.1" in missing_for_compiling("cuda", (6, 1))
    assert "capability" not in missing_for_compiling("cuda", (7, 0))


@pytest.mark.slow
@pytest.mark.skipif(MISSING != "", reason=f"needs {MISSING}")
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_compiled_once_per_shape(kind):
    student = make_student(kind)
    fast = compile_forward(student.encoder, (replace(SHAPE, tokens=40), SHAPE), student.draws)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    def graphs():
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    for lengths in ([3, 5, 20, 1, 7], [20, 1, 2, 3, 4], [4, 4]):
        assert_same(student, fast, make_packed(lengths))
    assert graphs() == 1
    for lengths in ([20, 20, 20, 2, 2], [20, 20, 1], [4, 4], [20, 19, 20]):
        assert_same(student, fast, make_packed(lengths))
    assert graphs() == 2
    assert_same(student, fast, make_packed([21, 3]))  # does not fit, and works all the same
    assert graphs() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", CONFIGS)
def test_compiled_on_a_gpu(kind):
    student = make_student(kind).cuda()
    fast = compile_forward(student.encoder, (SHAPE,), student.draws)
    for lengths in ([3, 5, 20, 1, 7], [4, 4]):
        on_gpu = make_packed(lengths).to(torch.device("cuda"))
        with torch.no_grad():
            torch.testing.assert_close(fast(on_gpu), student(on_gpu), atol=1e-4, rtol=1e-4)
