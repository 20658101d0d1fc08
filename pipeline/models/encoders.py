"""Load an encoder from a distill run, a local folder or the hub, with what is known about it."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.untrusted import file_part, parse_json, read_text_file
from pipeline.models.checking import find_reading
from pipeline.models.pretrained import Pretrained
from pipeline.models.student import Student, load_encoder, load_student

OF_CTAL = Path("model") / "text"
"""Where a run of pretrain ctal keeps its text encoder."""


def label_of(checkpoint: str) -> str:
    """What tables call the encoder that a user wrote as `PATH` or `NAME=PATH`."""
    label, source = name_and_source(checkpoint)
    return label or (Path(source).resolve().name if _is_there(source) else source)


def name_and_source(checkpoint: str) -> tuple[str, str]:
    """Split what a user wrote as `PATH` or `NAME=PATH`; the name is empty if there is none.

    A path may hold a `=` (`runs/lr=1e-4`), and so may a name. So what exists decides: the whole,
    or else the longest part behind a `=`. Where nothing exists, the name ends at the first `=`,
    unless a `/` stands before it, which makes the whole a path.
    """
    if _is_there(checkpoint):
        return "", checkpoint
    for place, letter in enumerate(checkpoint):
        if letter == "=" and _is_there(checkpoint[place + 1 :]):
            return checkpoint[:place], checkpoint[place + 1 :]
    name, equals, source = checkpoint.partition("=")
    return (name, source) if equals and "/" not in name else ("", checkpoint)


def _is_there(source: str) -> bool:
    try:
        return bool(source) and Path(source).exists()
    except OSError:  # too long for a file's name
        return False


def load_pretrained(
    checkpoint: str,
) -> tuple[Pretrained, PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder, its tokenizer, and what is known about it.

    Args:
        checkpoint: `PATH` or `NAME=PATH`. The path is a run folder of `speechkd distill` (its
            `student/` is used), a Hugging Face encoder folder, or a hub id.

    Raises:
        SpeechkdError: nothing of that name can be loaded.
    """
    name, run = _source_and_run(checkpoint)
    encoder, tokenizer = load_encoder(name)
    return describe(checkpoint, run, encoder), encoder, tokenizer


def check_labels(checkpoints: Iterable[str]) -> None:
    """Check that tables and files can tell all checkpoints apart.

    Raises:
        SpeechkdError: two have the same label, or labels that differ only in characters that no
            file name has.
    """
    by_label: dict[str, str] = {}
    for checkpoint in dict.fromkeys(checkpoints):
        label = label_of(checkpoint)
        other = by_label.setdefault(file_part(label), checkpoint)
        if other != checkpoint:
            raise SpeechkdError(
                f"--checkpoint {other} and {checkpoint} are both called {label} in tables and "
                f"files; write one as NAME=PATH, for instance "
                f"{label}-2={name_and_source(checkpoint)[1]}."
            )


def untrained_like(encoder: PreTrainedModel, seed: int) -> PreTrainedModel:
    """An encoder of the same configuration with the weights that a fresh student begins with.

    Args:
        encoder: one of a masked-LM kind.
        seed: of its weights, as of `speechkd distill`.
    """
    config = type(encoder.config).from_dict(encoder.config.to_dict())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    fresh: PreTrainedModel = model.base_model
    find_reading(fresh, "an untrained student")
    return fresh


def load_masked_lm(checkpoint: str) -> tuple[Pretrained, Student, PreTrainedTokenizerBase]:
    """Load an encoder with its masked-LM head, its tokenizer, and what is known about it.

    Args:
        checkpoint: as for `load_pretrained`.

    Raises:
        SpeechkdError: nothing of that name can be loaded, or it has no masked-LM head or no mask
            token.
    """
    name, run = _source_and_run(checkpoint)
    student, tokenizer = load_student(name, head=True)
    if tokenizer.mask_token_id is None:
        raise SpeechkdError(f"{name}: the tokenizer has no mask token, so it is no masked LM.")
    return describe(checkpoint, run, student.encoder), student, tokenizer


def text_folder(checkpoint: str) -> str:
    """The folder or hub id of a text encoder; of a run, that of its `student/`.

    Args:
        checkpoint: as for `load_pretrained`.

    Raises:
        SpeechkdError: there is no such folder, or it is a run without a text encoder.
    """
    return _source_and_run(checkpoint)[0]


def run_of(checkpoint: str) -> dict[str, Any]:
    """The record of the run that a checkpoint is of; empty if it is of none.

    Args:
        checkpoint: as for `load_pretrained`.

    Raises:
        SpeechkdError: there is no such folder, or the record is damaged.
    """
    return _source_and_run(checkpoint)[1]


def _source_and_run(checkpoint: str) -> tuple[str, dict[str, Any]]:
    """The folder or hub id to load, and the record of the run that wrote it, if one did."""
    source = name_and_source(checkpoint)[1]
    if not source:
        raise SpeechkdError(
            f"--checkpoint {checkpoint!r} names no encoder; write NAME=PATH or PATH."
        )
    folder = Path(source)
    run: dict[str, Any] = {}
    name = source
    if (folder / "run.json").is_file():
        if not (folder / "student").is_dir():
            raise NotThere(
                f"{folder} has no student/, the text encoder that is read here: "
                f"{why_without(folder)}. Name a run of `speechkd distill` or of `speechkd pretrain "
                "whisbert`, or the folder of an encoder"
                + (f", such as {folder / OF_CTAL}." if (folder / OF_CTAL).is_dir() else ".")
            )
        run = run_record(folder / "run.json")
        name = str(folder / "student")
    elif not folder.exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise NotThere(f"{source}: there is no such folder; name a run or an encoder folder.")
    return name, run


def describe(checkpoint: str, run: Mapping[str, Any], encoder: nn.Module) -> Pretrained:
    """What is known of an encoder, from the record of its run.

    Args:
        checkpoint: as the user wrote it.
        run: the record; empty if the encoder is not from a run.
        encoder: whose weights are counted.
    """
    settings, compared = run.get("settings", {}), run.get("comparable", {})
    objective = compared.get("objective", settings.get("kd"))
    control = compared.get("control", settings.get("control"))
    setup = compared.get("setup")
    if setup is not None:  # a run that was stopped early is another recipe than its whole schedule
        setup = {**setup, "steps": run.get("result", {}).get("step")}
    return Pretrained(
        label=label_of(checkpoint),
        source=name_and_source(checkpoint)[1],
        objective=objective,
        control=control if objective not in (None, "none") else None,
        pretraining_seed=settings.get("seed"),
        parameters=sum(p.numel() for p in encoder.parameters()),
        weights_sha256=weights_sha256(encoder),
        setup=setup,
        teaching=compared.get("teaching"),
        method=run.get("method"),
    )


def weights_sha256(encoder: nn.Module) -> str:
    """Digest of the names, types and values of all of an encoder's weights.

    A cache's `teacher_sha256` (`pipeline.extraction.weights`) is another digest on purpose: it
    ignores the type, because a teacher may be stored in float16 or float32. Results folders and
    caches hold both kinds, so neither can become the other.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def why_without(folder: Path) -> str:
    """Why a run's folder lacks a model: another method made it, or it is not done yet.

    Raises:
        Damaged: its record is none.
    """
    record = run_record(folder / "run.json")
    method = record.get("method", "distill")
    if record.get("status") == "finished":
        return f"it is a run of {method}, which makes none"
    return f"its run of {method} has not finished, and the same command carries on"


def record_above(folder: Path) -> dict[str, Any]:
    """The record of the run that wrote a folder into its own; empty if none lies there.

    Raises:
        Damaged: a file of that name lies there and is none.
    """
    path = folder.parent / "run.json"
    return run_record(path) if path.is_file() else {}


def run_record(path: Path) -> dict[str, Any]:
    """The record of the run that wrote an encoder.

    Raises:
        Damaged: the file is none.
    """
    try:
        record = parse_json(read_text_file(path))
        parts = [record["settings"], record.get("comparable", {}), record.get("result", {})]
        parts += [parts[1].get(name) or {} for name in ("setup", "teaching")]
        if not all(isinstance(part, dict) for part in parts):
            raise TypeError("a part is no object")
        return dict(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(
            f"{path} is not the record of a run ({error!r}); to use the encoder without "
            "it, name its student/ folder."
        ) from None
