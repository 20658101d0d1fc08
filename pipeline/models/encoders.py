"""Encoders to be judged: a distill run, a local folder or a hub id, and what a table calls them."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import file_part, parse_json, read_text_file
from pipeline.models.student import Student, load_encoder, load_student


@dataclass(frozen=True)
class Pretrained:
    """Where an encoder came from.

    Attributes:
        label: its name in tables, unique in a results folder.
        source: the folder or hub id as given.
        objective: the distillation objective of a run (`none` for masked-LM only); None for an
            encoder that is not from a run.
        control: `real`, `shuffled` or `random` teacher vectors; None where that does not apply.
        pretraining_seed: the run's seed; None where unknown.
        parameters: trainable numbers in the encoder.
        weights_sha256: digest of the encoder's weights.
    """

    label: str
    source: str
    objective: str | None
    control: str | None
    pretraining_seed: int | None
    parameters: int
    weights_sha256: str

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return asdict(self)


def label_of(given: str) -> str:
    """What a table calls the encoder that a user gave as `PATH` or `LABEL=PATH`."""
    label, _, source = given.rpartition("=")
    folder = Path(source)
    return label or (folder.resolve().name if folder.exists() else source)


def load_pretrained(given: str) -> tuple[Pretrained, PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder, its tokenizer, and what is known of it.

    Args:
        given: `PATH` or `LABEL=PATH`; the path is a run folder of `speechkd distill` (its
            `student/` is used), a Hugging Face encoder folder, or a hub id.

    Raises:
        SpeechkdError: nothing there can be loaded.
    """
    name, run = _found(given)
    encoder, tokenizer = load_encoder(name)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # masked-LM checkpoints have none, and it would be drawn at random
    return _described(given, run, encoder), encoder, tokenizer


def check_labels(checkpoints: Iterable[str]) -> None:
    """Refuse two checkpoints, as given by a user, that tables or files could not tell apart.

    Raises:
        SpeechkdError: two have one label, or labels that differ in odd characters alone.
    """
    by_label: dict[str, str] = {}
    for given in dict.fromkeys(checkpoints):
        label = label_of(given)
        other = by_label.setdefault(file_part(label), given)
        if other != given:
            raise SpeechkdError(
                f"--checkpoint {other} and {given} are both called {label} in tables and files; "
                f"name one LABEL=PATH, for instance {label}-2={given.rpartition('=')[2]}."
            )


def load_masked_lm(given: str) -> tuple[Pretrained, Student, PreTrainedTokenizerBase]:
    """Load an encoder with its masked-LM head, its tokenizer, and what is known of it.

    Raises:
        SpeechkdError: nothing there can be loaded, or it has no masked-LM head or mask token.
    """
    name, run = _found(given)
    student, tokenizer = load_student(name, head=True)
    if tokenizer.mask_token_id is None:
        raise SpeechkdError(f"{name}: the tokenizer has no mask token, so it is no masked LM.")
    return _described(given, run, student.encoder), student, tokenizer


def _found(given: str) -> tuple[str, dict[str, Any]]:
    """What to load, and the settings of the run that it came from."""
    source = given.rpartition("=")[2]
    if not source:
        raise SpeechkdError(f"--checkpoint {given!r} names no encoder; write LABEL=PATH or PATH.")
    folder = Path(source)
    logging.set_verbosity_error()  # a head that is left out is no news
    logging.disable_progress_bar()
    run: dict[str, Any] = {}
    name = source
    if (folder / "run.json").is_file():
        if not (folder / "student").is_dir():
            raise SpeechkdError(
                f"{folder} is a run without student/ (has it finished?); `speechkd distill` with "
                "the same settings carries on where it stopped."
            )
        run = _run_settings(folder / "run.json")
        name = str(folder / "student")
    elif not folder.exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise SpeechkdError(f"{source}: there is no such folder; name a run or an encoder folder.")
    return name, run


def _described(given: str, run: dict[str, Any], encoder: PreTrainedModel) -> Pretrained:
    objective = run.get("kd")
    return Pretrained(
        label=label_of(given),
        source=given.rpartition("=")[2],
        objective=objective,
        control=run.get("control") if objective not in (None, "none") else None,
        pretraining_seed=run.get("seed"),
        parameters=sum(p.numel() for p in encoder.parameters()),
        weights_sha256=weights_sha256(encoder),
    )


def weights_sha256(encoder: PreTrainedModel) -> str:
    """Digest of the names, types and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _run_settings(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_text_file(path))
        settings = record["settings"]
        return dict(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise SpeechkdError(
            f"{path} is not the record of a distill run ({error!r}); name its student/ folder "
            "instead to use the encoder without it."
        ) from None
