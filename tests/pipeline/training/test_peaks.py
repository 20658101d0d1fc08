"""The peak of a card is that of its data sheet, and unknown cards have none."""

import pytest
import torch

from pipeline.training.peaks import peak_flops


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        # the driver's own names for the cards
        ("NVIDIA A10", 125),
        ("NVIDIA A30", 165),
        ("NVIDIA A40", 149.7),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("A100-SXM4-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181.05),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA RTX A6000", 154.8),
        # others, whose names begin or go on like those
        ("NVIDIA RTX A1000", None),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Quadro RTX A6000 Max-Q", None),
        ("Tesla V100-SXM2-16GB", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_the_peak_is_that_of_the_card_and_of_no_other(monkeypatch, name, teraflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    peak = peak_flops(torch.device("cuda:0"))
    assert peak == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_utilisation_is_not_told_for_hardware_of_unknown_peak():
    assert peak_flops(torch.device("cpu")) is None
