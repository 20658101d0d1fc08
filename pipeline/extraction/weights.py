"""A teacher's name → the folder of its files → the shape and the tensors of its encoder.

A name is a Hugging Face id, a local folder in Hugging Face's format, or one of `offline.py`, such
as `offline:tiny.en`. Weights are read from safetensors only; nothing is ever unpickled.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from pipeline.extraction.offline import OFFLINE, Tensors, offline_folder
from pipeline.extraction.whisper import EncoderShape
from pipeline.foundation.errors import (
    Damaged,
    NotThere,
    SpeechkdError,
    Unreachable,
    first_line,
    unless_of_memory,
)
from pipeline.foundation.progress import say
from pipeline.foundation.untrusted import has_control, parse_json, read_text_file

FILES = (
    *("config.json", "preprocessor_config.json"),
    *("model*.safetensors", "model.safetensors.index.json"),
)
"""What an encoder needs of a model on the hub."""
PREFIXES = ("model.encoder.", "encoder.", "")
LARGEST = EncoderShape(2**14, 1024, 1024, 2**16, 1024, 2**16)
"""A configuration with larger numbers is damaged, or meant to exhaust the machine."""


def teacher_folder(name: str) -> Path:
    """The folder that holds a teacher's `config.json` and safetensors.

    Args:
        name: `offline:tiny.en`, a folder, or a Hugging Face id, optionally `id@revision`.

    Raises:
        SpeechkdError: there is no such folder, package or model, or it cannot be downloaded.
    """
    if name.startswith("offline:"):
        return offline_folder(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith("."):
        raise NotThere(
            f"--teacher {name}: there is no such folder, and it is not a Hugging Face id such as "
            f"openai/whisper-small.en. Without a network, {OFFLINE} works."
        )
    return _download(name)


def folder_name(folder: Path) -> str:
    """The name of a model that is given as a folder.

    `hf download` prints a folder named after a commit; the model's id is further up in its path.
    """
    folder = folder.resolve()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


def read_encoder(folder: Path) -> tuple[EncoderShape, Tensors]:
    """Read the encoder's shape and tensors, named as in Hugging Face's `WhisperEncoder`.

    Raises:
        SpeechkdError: no `config.json`, not a Whisper, no safetensors, or no encoder in them.
    """
    shape = _encoder_shape(folder / "config.json")
    tensors = read_tensors(folder, lambda name: "decoder." not in name)
    for prefix in PREFIXES:
        if f"{prefix}conv1.weight" in tensors:
            mine = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
            return shape, mine
    raise Damaged(f"{folder}: the weights hold no Whisper encoder (no conv1.weight).")


def model_type(folder: Path) -> str:
    """What a teacher folder's `config.json` calls its architecture, such as `whisper`.

    Raises:
        Damaged: there is no such file, or it is not JSON.
    """
    return str(_config(folder / "config.json").get("model_type"))


def folder_sha256(folder: Path) -> str:
    """Digest of the tensors of a folder's safetensors, as `tensors_sha256`.

    Raises:
        SpeechkdError: it has none, or they are damaged.
    """
    return tensors_sha256(read_tensors(folder, lambda name: "decoder." not in name))


def read_tensors(folder: Path, wanted: Callable[[str], bool]) -> Tensors:
    """Tensors of a folder's safetensors whose names are wanted.

    Raises:
        SpeechkdError: there are no safetensors, or they cannot be read.
    """
    tensors: Tensors = {}
    for file in _weight_files(folder):
        tensors.update(_read_safetensors(file, wanted))
    return tensors


def fetch_beside(name: str, folder: Path, files: Sequence[str]) -> Path:
    """The folder of a teacher with those of `files` that the hub has of it, fetched if need be.

    A local folder is left as it is. The hub's folder may lack them, because an encoder alone does
    not need them.

    Raises:
        Unreachable: they are not on this machine, and the hub cannot be reached.
    """
    if Path(name).expanduser().is_dir() or (folder / files[0]).is_file():
        return folder
    return _snapshot_from_hub(name, [*FILES, *files])


def tensors_sha256(tensors: Tensors) -> str:
    """Digest of tensors by name, shape and float32 value, whatever file they came from.

    `pipeline.models.encoders.weights_sha256` is another digest on purpose: see there.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} float32 {list(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _config(path: Path) -> dict[str, Any]:
    try:
        config = parse_json(read_text_file(path))
    except (OSError, ValueError) as error:
        raise Damaged(
            f"{path} cannot be read ({error}); a teacher folder holds config.json and "
            "model.safetensors, as Hugging Face's save_pretrained writes them."
        ) from None
    return config if isinstance(config, dict) else {}


def _encoder_shape(path: Path) -> EncoderShape:
    config = _config(path)
    kind = config.get("model_type")
    if kind != "whisper":
        raise SpeechkdError(f"{path}: model_type is {kind!r}; only Whisper teachers are known.")
    names = [f.name for f in fields(EncoderShape)]
    wrong = [n for n in names if type(config.get(n)) is not int or config[n] < 1]
    if wrong:
        raise Damaged(f"{path}: {wrong[0]} is {config.get(wrong[0])!r}, not a whole number.")
    too_large = [n for n in names if config[n] > getattr(LARGEST, n)]
    if too_large:
        name = too_large[0]
        raise SpeechkdError(
            f"{path}: {name} is {config[name]:,}; at most {getattr(LARGEST, name):,} is read."
        )
    if config["d_model"] % config["encoder_attention_heads"]:
        raise SpeechkdError(
            f"{path}: d_model {config['d_model']} is no multiple of encoder_attention_heads "
            f"{config['encoder_attention_heads']}."
        )
    if config.get("activation_function", "gelu") != "gelu" or config.get("scale_embedding"):
        raise SpeechkdError(
            f"{path}: activation_function must be gelu and scale_embedding false, as in every "
            "Whisper that OpenAI published."
        )
    return EncoderShape(**{name: config[name] for name in names})


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(map(str, parse_json(read_text_file(index))["weight_map"].values())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{index} is not an index of weights ({error!r}).") from None
        outside = [n for n in names if Path(n).name != n or has_control(n)]
        if outside:
            raise Damaged(f"{index} points outside its folder: {outside[0]!r}.")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    others = sorted(p.name for p in folder.glob("*.bin")) + sorted(
        p.name for p in folder.glob("*.pt")
    )
    hint = (
        f"It has {others[0]}, which may be a pickle and is not read; load it once with "
        "transformers and call save_pretrained, which writes safetensors."
        if others
        else "Copy the model's safetensors there, or name another teacher."
    )
    raise NotThere(f"teacher folder {folder} has no weights: no model.safetensors. {hint}")


def _read_safetensors(path: Path, wanted: Callable[[str], bool]) -> Tensors:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if wanted(name)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise Damaged(
            f"{path} cannot be read ({error}); it is damaged or not whole: fetch it again."
        ) from None


def _download(name: str) -> Path:
    try:
        folder = _snapshot(name, FILES, local_only=True)
        if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors")):
            return folder
    except (OSError, ValueError):
        say(f"{name} is not on this machine yet; fetching it from Hugging Face")
    return _snapshot_from_hub(name, FILES)


def _snapshot(name: str, files: Sequence[str], *, local_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    return Path(
        snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=list(files),
            ignore_patterns=["*fp32*"],
            local_files_only=local_only,
        )
    )


def _snapshot_from_hub(name: str, files: Sequence[str]) -> Path:
    try:
        return _snapshot(name, files, local_only=False)
    except Exception as error:  # the hub raises a dozen unrelated kinds, network errors included
        unless_of_memory(error)
        reason = first_line(error)[:200]
        raise Unreachable(
            f"the teacher {name} is not on this machine, or not whole, and cannot be fetched from "
            f"Hugging Face ({type(error).__name__}: {reason}). Where there is a network, `hf "
            f"download {name.partition('@')[0]}` and give the folder it prints as --teacher; or "
            f"use --teacher {OFFLINE}."
        ) from None
