"""The one way from a word to a device, and to its arithmetic."""

import contextlib

import pytest
import torch

from pipeline.foundation import devices
from pipeline.foundation.devices import (
    check_bf16,
    device_named,
    devices_named,
    ieee_float32,
    one_thread,
    training_precision,
    use,
)
from pipeline.foundation.errors import SpeechkdError

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Pretend a number of GPUs; the devices that were opened are kept in the list returned."""
    opened = []
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(devices, "LOADED_DRIVER", tmp_path / "none")
    monkeypatch.setattr(devices, "_open", opened.append)
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    devices._warn.cache_clear()

    def pretend(count, listed=None):
        # torch counts GPUs by the driver's library even where the driver is too old for it
        monkeypatch.setattr(torch.cuda, "device_count", lambda: listed or count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        return opened

    return pretend


@pytest.fixture
def built_for_cuda(gpus, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(devices, "why_none", lambda: "the driver is too old")


def test_auto_takes_a_gpu_where_there_is_one(gpus, monkeypatch):
    gpus(0)
    assert device_named("auto") == device_named("cpu") == CPU
    opened = gpus(2)
    assert device_named("cpu") == CPU
    assert opened == []
    assert device_named("auto") == device_named("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_named("cuda") == torch.device("cuda", 1)
    assert opened[-1] == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("shown", "visible", "numbers"),
    [(4, None, [0, 1, 2, 3]), (4, "4,5,6,7", [0, 1, 2, 3]), (1, "7", [0, 0, 0, 0])],
)
def test_each_process_has_its_gpu_whether_it_is_shown_one_or_all(
    gpus, monkeypatch, shown, visible, numbers
):
    gpus(shown)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for rank, number in enumerate(numbers):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert device_named("cuda") == torch.device("cuda", number)


@pytest.mark.parametrize(("shown", "visible"), [(1, None), (2, None), (2, "0,1")])
def test_more_processes_than_gpus_are_refused(gpus, monkeypatch, shown, visible):
    gpus(shown)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "0")
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(SpeechkdError, match=rf"4 processes.*Start {shown} "):
        device_named("auto")


def test_a_gpu_that_is_not_there_is_refused(gpus):
    gpus(0)
    with pytest.raises(
        SpeechkdError, match="--device cuda: torch finds no CUDA device: this build"
    ):
        device_named("cuda")


@pytest.mark.usefixtures("built_for_cuda")
@pytest.mark.parametrize("listed", [0, 1])
def test_a_build_for_cuda_without_a_gpu_never_falls_back_silently(gpus, capsys, listed):
    gpus(0, listed)
    assert device_named("auto") == CPU
    assert devices_named("auto") == [CPU]
    said = capsys.readouterr().err
    assert said.count("WARNING: goes on without a GPU") == 1
    assert "the driver is too old" in said
    for word in ("all", "0"):
        with pytest.raises(SpeechkdError, match=rf"--devices {word}.*the driver is too old"):
            devices_named(word)
    with pytest.raises(SpeechkdError, match=r"--device cuda.*the driver is too old"):
        device_named("cuda")
    assert device_named("cpu") == CPU


def test_a_build_for_cpus_goes_on_silently(gpus, monkeypatch, tmp_path, capsys):
    gpus(0)
    assert device_named("auto") == CPU
    assert devices_named("all") == [CPU]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(devices, "LOADED_DRIVER", tmp_path)
    assert device_named("auto") == CPU
    assert "WARNING: goes on without a GPU" in capsys.readouterr().err


def test_a_gpu_in_use_is_told(gpus, monkeypatch, capsys):
    gpus(2)

    def busy(device):
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore")

    monkeypatch.setattr(devices, "_open", busy)
    assert device_named("auto") == CPU
    assert devices_named("auto") == [CPU]
    assert "busy or unavailable). Another process may have it" in capsys.readouterr().err
    assert devices_named("1") == [torch.device("cuda:1")]
    for ask in (lambda: device_named("cuda"), lambda: use(torch.device("cuda:1"))):
        with pytest.raises(SpeechkdError, match=r"is there but cannot be used .*busy"):
            ask()
    monkeypatch.setenv("WORLD_SIZE", "2")  # a process on the CPU would wait for the others for ever
    with pytest.raises(SpeechkdError, match="busy"):
        device_named("auto")


@pytest.mark.parametrize(
    ("text", "count", "names", "contexts"),
    [
        ("auto", 0, ["cpu"], []),
        ("auto", 2, ["cuda:0"], ["cuda:0"]),
        ("all", 0, ["cpu"], []),
        ("all", 3, ["cuda:0", "cuda:1", "cuda:2"], []),
        ("cpu", 2, ["cpu"], []),
        ("1,0", 2, ["cuda:1", "cuda:0"], []),
        ("cuda:1", 2, ["cuda:1"], []),
    ],
)
def test_several_devices_by_their_words(gpus, text, count, names, contexts):
    opened = gpus(count)
    assert devices_named(text) == [torch.device(name) for name in names]
    assert opened == [torch.device(name) for name in contexts]


@pytest.mark.parametrize("text", ["2", "cuda", "0,7", "tpu", ""])
def test_an_unknown_device_is_refused_by_name(gpus, text):
    gpus(2)
    with pytest.raises(SpeechkdError, match=f"--devices {text}: there is no device"):
        devices_named(text)


@pytest.mark.parametrize(
    ("capability", "automatic"), [((9, 0), "bf16"), ((8, 6), "bf16"), ((7, 5), "float32")]
)
def test_bf16_is_for_cards_that_have_it(gpus, monkeypatch, capsys, capability, automatic):
    gpus(1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla X")
    gpu = torch.device("cuda:0")
    assert training_precision("auto", gpu) == automatic
    assert training_precision("float32", gpu) == "float32"
    assert ("Tesla X has no bf16" in capsys.readouterr().err) == (automatic == "float32")
    if automatic == "bf16":
        assert training_precision("bf16", gpu) == "bf16"
        return
    for ask in (check_bf16, lambda device: training_precision("bf16", device)):
        with pytest.raises(SpeechkdError, match=r"Tesla X has no bf16.*7\.5.*--precision auto"):
            ask(gpu)


def test_a_cpu_is_float32_unless_asked(gpus):
    gpus(0)
    assert training_precision("auto", CPU) == "float32"
    assert training_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16 dgh\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("vmx flags\t: bf16\nflags\t\t: avx2\n", False),
        ("a machine that says nothing of it\n", True),
    ],
)
def test_processors_with_bf16_are_known_by_what_linux_lists(tmp_path, cpuinfo, has):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert devices.cpu_has_bf16(tmp_path / "cpuinfo") == has
    assert devices.cpu_has_bf16(tmp_path / "nothing")


@pytest.mark.parametrize("has", [True, False])
def test_bf16_on_a_processor_without_it_is_warned_of_once(monkeypatch, capsys, has):
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: has)
    devices._warn.cache_clear()
    for _ in range(2):
        assert training_precision("bf16", CPU) == "bf16"
    assert training_precision("auto", CPU) == training_precision("float32", CPU) == "float32"
    warnings = capsys.readouterr().err.count("this processor has no bf16 arithmetic")
    assert warnings == (0 if has else 1)
    devices._warn.cache_clear()


@pytest.mark.parametrize("matrices", ["highest", "high"])
def test_float32_is_ieee_within_and_as_before_after(matrices):
    def now():
        cudnn = torch.backends.cudnn
        new = [b.fp32_precision for b in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)]
        return new, cudnn.allow_tf32, torch.get_float32_matmul_precision()

    torch.set_float32_matmul_precision(matrices)
    try:
        before = now()
        assert before[1]  # torch's own default rounds in convolutions
        with ieee_float32(), ieee_float32():
            assert now() == (["ieee"] * 3, False, "highest")
            assert not torch.backends.cuda.matmul.allow_tf32
        assert now() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_one_thread_within_and_as_many_as_before_after():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with contextlib.suppress(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
