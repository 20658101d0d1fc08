"""What is told of GPUs without a context: lists of nvidia-smi, drivers, builds of torch."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.foundation import gpus
from pipeline.foundation.gpus import Card, capability_of, cards, has_bf16, has_kernels, why_none

LINES = """\
0, NVIDIA H100 80GB HBM3, 580.65.06, 81559, 81079, 9.0, Default, Enabled
1, Tesla T4, 580.65.06, 15360, [N/A], 7.5, Exclusive_Process, [N/A]
"""


@pytest.fixture
def no_contexts(monkeypatch):
    """Make every call fail that would open a context."""

    def forbidden(*_, **__):
        pytest.fail("a context was opened")

    for name in ("mem_get_info", "set_device", "synchronize", "memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, forbidden)


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """Put an nvidia-smi on the path that answers with a text and a status."""

    def install(text, status=0):
        (tmp_path / "answer").write_text(text)
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/answer\nexit {status}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


@pytest.mark.usefixtures("no_contexts")
def test_cards_are_those_that_nvidia_smi_lists(nvidia_smi):
    nvidia_smi(LINES)
    mib = 2**20
    assert cards() == [
        Card(
            0,
            "NVIDIA H100 80GB HBM3",
            "580.65.06",
            81559 * mib,
            81079 * mib,
            (9, 0),
            "Default",
            True,
        ),
        Card(1, "Tesla T4", "580.65.06", 15360 * mib, None, (7, 5), "Exclusive_Process", False),
    ]


@pytest.mark.usefixtures("no_contexts")
@pytest.mark.parametrize("installed", [False, True])
def test_without_it_cards_are_those_that_torch_sees(nvidia_smi, monkeypatch, installed):
    monkeypatch.setenv("PATH", "")
    if installed:
        nvidia_smi("NVIDIA-SMI has failed", 9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # whatever this machine has
    assert cards() == []
    properties = SimpleNamespace(name="NVIDIA L4", total_memory=24 * 10**9, major=8, minor=9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert cards() == [Card(0, "NVIDIA L4", "", 24 * 10**9, None, (8, 9), "Default", False)]


@pytest.mark.parametrize(
    ("build", "loaded", "driver", "visible", "words"),
    [
        (None, False, None, None, "for CPUs alone"),
        (None, True, None, None, "there is an NVIDIA driver: install torch's CUDA build"),
        ("13.0", False, None, None, "this machine has no NVIDIA driver"),
        ("13.0", True, None, None, "libcuda.so.1 is not here. Start the container with GPUs"),
        ("13.0", True, (0, (12, 4)), None, "knows CUDA up to 12.4. Update the driver to 580"),
        ("13.0", True, (0, (12, 8)), "", "or install a build of torch for CUDA 12"),
        ("12.8", True, (100, (13, 0)), "", "CUDA_VISIBLE_DEVICES='' hides every GPU"),
        ("12.8", True, (100, (13, 0)), "-1", "CUDA_VISIBLE_DEVICES='-1' hides every GPU"),
        ("12.8", True, (100, (13, 0)), None, "shows this process no GPU. On a cluster ask"),
        ("12.8", True, (802, (13, 0)), None, "nvidia-fabricmanager"),
        ("12.8", True, (803, (13, 0)), None, "restart after an update"),
        ("12.8", True, (1, (13, 0)), None, "the driver answers 1"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, tmp_path, build, loaded, driver, visible, words):
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(gpus, "LOADED_DRIVER", tmp_path if loaded else tmp_path / "none")
    monkeypatch.setattr(gpus, "_driver", lambda: driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert words in why_none()


def test_the_driver_is_asked_through_its_library(monkeypatch):
    def tell(number):
        number._obj.value = 12080
        return 0

    library = SimpleNamespace(cuInit=lambda _: 100, cuDriverGetVersion=tell)
    monkeypatch.setattr("ctypes.CDLL", lambda _: library)
    assert gpus._driver() == (100, (12, 8))


def test_which_cards_a_build_has_kernels_for(monkeypatch):
    builds = ["sm_75", "sm_80", "sm_90a", "sm_120", "compute_120"]
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: builds)
    known = [(7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0), (13, 0)]
    assert [has_kernels(one) for one in known] == [
        False, True, True, True, True, False, True, True,
    ]  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: [])
    assert has_kernels((7, 0))


def test_capabilities_are_of_nvidia_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    gpu, cpu = torch.device("cuda:1"), torch.device("cpu")
    assert capability_of(gpu) == (7, 0)
    assert not has_bf16(gpu)
    assert capability_of(cpu) is None
    assert has_bf16(cpu)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert has_bf16(gpu)
