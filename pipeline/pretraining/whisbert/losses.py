"""The five losses of WhisBERT by name, and what each needs. It imports nothing heavy."""

from typing import Literal, get_args

Loss = Literal["mlm", "mam", "mmc", "mmm", "atm"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
HEAR: frozenset[Loss] = frozenset({"mam", "mmc", "mmm", "atm"})
"""Those that hear audio."""
HIDE: frozenset[Loss] = frozenset({"mam", "mmm", "atm"})
"""Those that hear audio of which patches are hidden."""
JOIN: frozenset[Loss] = frozenset({"mmm", "atm"})
"""Those that join audio and text."""
LOSS_OF: dict[str, Loss] = {
    "mlm": "mlm",
    "mam": "mam",
    "mmc": "mmc",
    "mmm_text": "mmm",
    "mmm_audio": "mmm",
    "atm": "atm",
}
"""The parts of the sum, and the loss whose weight each has."""
TITLES: dict[Loss, str] = {
    "mlm": "masked language modelling",
    "mam": "masked audio modelling",
    "mmc": "multimodal contrast",
    "mmm": "masked multimodal modelling",
    "atm": "audio-text matching",
}
