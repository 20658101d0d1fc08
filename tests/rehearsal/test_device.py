"""The pretended device refuses what CUDA refuses, and counts what makes the host wait for CUDA."""

import pytest
import torch

from tests.rehearsal.device import missing, on_device, pretended

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a real device is here"),
    pytest.mark.skipif(bool(missing()), reason=f"this torch has no {missing()}"),
]


def test_tensors_go_there_and_what_is_computed_from_them_is_there():
    with pretended():
        there = torch.arange(6.0).view(2, 3).to("cuda")
        results = [there[0], there.T, there + 1, there.new_zeros(2), torch.zeros_like(there)]
        results += [torch.ones(2, device="cuda"), there.where(there > 1, 0), there[there > 1]]
        assert all(r.is_cuda and r.device == torch.device("cuda", 0) for r in results)
        assert not torch.zeros_like(there, device="cpu").is_cuda
        assert not there.cpu().is_cuda
        assert there.sum().item() == 15
    assert there.device.type == "cpu"
    assert not on_device(there)


def test_a_model_trains_there():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    with pretended():
        model.to("cuda")
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        for _ in range(2):
            model(torch.ones(2, 4, device="cuda")).pow(2).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        weight = model[0].weight
        assert weight.is_cuda
        assert weight.grad.is_cuda
        assert optimizer.state[weight]["exp_avg"].is_cuda


@pytest.mark.parametrize(
    "back", [lambda loss: torch.autograd.backward(loss), lambda loss: loss.backward()]
)
def test_what_torch_makes_on_the_way_back_is_there(back):
    with pretended():
        there = torch.ones(4, 3, device="cuda", requires_grad=True)
        chosen = there.index_select(0, torch.tensor([2, 0], device="cuda"))
        back(chosen.pow(2).sum())
        assert there.grad.is_cuda


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda there, here: there + here, "Expected all tensors to be on the same device"),
        (lambda there, here: torch.cat([there, here]), "on the same device"),
        (lambda there, here: here[there.long()], "on the same device"),
        (lambda there, here: here.add_(there.sum()), "on the same device"),
        (lambda there, _: there.numpy(), "can't convert cuda:0"),
        (
            lambda *_: torch.rand(2, generator=torch.Generator("cpu"), device="cuda"),
            "Expected a 'cuda' device type for generator",
        ),
    ],
)
def test_what_cuda_refuses_is_refused(operation, error):
    with pretended():
        there, here = torch.zeros(3, device="cuda"), torch.zeros(3)
        with pytest.raises((RuntimeError, TypeError), match=error):
            operation(there, here)


def test_mixed_devices_and_waits_name_the_line_of_the_project():
    from pipeline.models.packing import pack

    with pretended() as ledger:
        pack(torch.tensor([5, 6, 7], device="cuda"), torch.tensor([2, 1], device="cuda"))
        assert any(line.startswith("pipeline/models/lengths.py:") for line in ledger.waits)
        with pytest.raises(RuntimeError, match=r"pipeline/models/lengths\.py:\d+: aten\."):
            pack(torch.tensor([5, 6, 7]), torch.tensor([2, 1], device="cuda"))


@pytest.mark.parametrize(
    ("operation", "waits"),
    [
        (lambda x: float(x.sum()), 1),
        (lambda x: bool((x > 0).any()), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x.repeat_interleave(x.long()), 1),
        (lambda x: x.repeat_interleave(x.long(), output_size=3), 0),
        (lambda x: x.to("cpu", non_blocking=True), 0),
        (lambda _: torch.ones(2).to("cuda"), 1),
        (lambda _: torch.ones(2).pin_memory().to("cuda", non_blocking=True), 0),
        (lambda x: (x * 2 + 1).sum().sqrt(), 0),
    ],
)
def test_what_waits_is_counted(operation, waits):
    with pretended() as ledger:
        there = torch.arange(3.0).to("cuda")
        ledger.waits.clear()
        operation(there)
        assert sum(ledger.waits.values()) == waits, ledger.waits


def test_autocast_keeps_in_float32_what_cuda_does():
    with pretended(), torch.autocast("cuda", dtype=torch.bfloat16):
        there = torch.ones(2, 4, device="cuda")
        product = there @ there.T
        assert product.dtype == torch.bfloat16
        assert torch.nn.functional.layer_norm(product, (2,)).dtype == torch.float32
        with torch.autocast("cuda", enabled=False):
            assert (there @ there.T).dtype == torch.float32
