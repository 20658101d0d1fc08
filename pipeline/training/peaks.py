"""What hardware can compute at most, so that a log can say how much of it training uses."""

import re

import torch

PEAK_BF16_FLOPS = {
    # NVIDIA's data sheets, halved where they count sparsity
    "A10": 125e12,  # A10 (2021)
    "A30": 165e12,  # A30 (2022)
    "A40": 149.7e12,  # A40 (2021)
    "A100 PCIE": 312e12,  # A100 (2022), all forms
    "A100 SXM4": 312e12,
    "H100 HBM3": 1979e12 / 2,  # H100 (2024), SXM
    "H100 NVL": 1671e12 / 2,  # H100 (2024)
    "H100 PCIE": 1513e12 / 2,  # H100 (2023)
    "H200": 1979e12 / 2,  # H200 (2024), SXM
    "H200 NVL": 1671e12 / 2,  # H200 (2024)
    "L4": 242e12 / 2,  # L4 (2023)
    "L40": 181.05e12,  # L40 (2023)
    "L40S": 362.05e12,  # L40S (2023)
    # NVIDIA's white papers, with sums in float32
    "RTX 3090": 71e12,  # Ampere GA102 (2021), appendix A
    "RTX 4090": 165.2e12,  # Ada GPU architecture (2023), appendix A
    "RTX A6000": 154.8e12,  # Ampere GA102 (2021), appendix B
}
"""Dense bf16 peak, by the driver's name for the card without the maker and the memory's size."""
NOT_IN_NAMES = re.compile(r"NVIDIA|GEFORCE|\d+GB")


def peak_flops(device: torch.device) -> float | None:
    """Operations per second of the device in bf16; None if it is not in the table.

    Only a whole name counts: a laptop's card, a slice of a card (MIG) or a card of another region
    has another peak than the one whose name it begins with.
    """
    if device.type != "cuda":
        return None
    words = re.split(r"[\s-]+", torch.cuda.get_device_name(device).upper())
    name = " ".join(word for word in words if not NOT_IN_NAMES.fullmatch(word))
    return PEAK_BF16_FLOPS.get(name)
