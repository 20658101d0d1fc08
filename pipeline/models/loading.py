"""Load models and tokenizers that somebody else made; what they claim is bounded before loading.

Weights are read from safetensors only, and no code of a folder is ever run (`trust_remote_code` is
off everywhere). But a configuration of a hundred bytes can ask for terabytes, and a tokenizer of a
few lines can make a short text endless.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from pipeline.foundation.errors import (
    Damaged,
    NotThere,
    SpeechkdError,
    Unreachable,
    first_line,
    is_panic,
    unless_of_memory,
)
from pipeline.foundation.progress import say
from pipeline.foundation.untrusted import parse_json

MAX_NUMBER = 2**24
"""The most of anything that a configuration counts: tokens, widths, positions."""
MAX_LAYERS = 1024
MAX_CONFIG_BYTES = 2**24
MAX_TOKENIZER_BYTES = 2**28
"""The largest vocabularies in use have files of 35 MB."""
MAX_GROWTH = 64
"""How many times as long a tokenizer's rules may make a text."""
SPARE_PARAMETERS = 10_000_000
"""Parameters that a model may have beyond those in its files: a new head."""
UNREAD = ("pooler", "masked_spec_embed")
"""Parts that checkpoints may lack, because no state depends on them: what stands above the last
states, and what wav2vec2 and its kin show in place of masked audio when they are trained."""
OWN_ATTENTION = ("eager", "sdpa", "flash_attention_2")
"""Other names may stand for code that transformers would fetch from the hub and run."""


def load_model(kind: Any, name: str, *, head: bool = False) -> Any:
    """Load a model by `kind.from_pretrained`, from safetensors only, in float32.

    Weights are float32 whatever their file has: steps of training are smaller than what bfloat16
    can tell apart, and a score in half precision is off by hundredths.

    Args:
        kind: `AutoModel`, or another class of that family.
        name: a folder or a hub id.
        head: whether the weights must hold the head of that kind, too. If not, a new one is drawn
            where there is none, and that is said.

    Raises:
        SpeechkdError: nothing can be loaded, the configuration claims too much, the weights lack
            layers of the encoder (or the head), which would be drawn at random, or they are
            quantised.
    """
    with _loading(name):
        _need(name, "config.json")
        if Path(name).is_dir():
            check_model_folder(Path(name))
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _check_claims(config.to_dict(), name)
        if getattr(config, "quantization_config", None):
            raise SpeechkdError(
                f"{name}: its weights are quantised, and cannot be trained in float32. Name the "
                "model as it was before that."
            )
        if Path(name).is_dir():
            with torch.device("meta"):
                check_parameters(Path(name), kind.from_config(config))
        model, report = kind.from_pretrained(
            name,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        _check_float32(model, name)
        prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
        absent = sorted(
            n
            for n in report["missing_keys"]
            if n.startswith(prefix) and not any(part in n for part in UNREAD)
        )
        if absent:
            raise Damaged(
                f"{name}: its weights lack {len(absent)} of the encoder's parameters, the first "
                f"{absent[0]}; they would be drawn at random. Is the folder whole?"
            )
        of_head = sorted(n for n in report["missing_keys"] if not n.startswith(prefix))
        lack = f"{name}: its weights have no {kind.__name__.removeprefix('AutoModelFor')} head"
        if head and of_head:
            raise SpeechkdError(
                f"{lack} ({of_head[0]} is not there), and one drawn at random would "
                "score nothing. Name a checkpoint that was saved with its head."
            )
        if of_head:
            say(f"{lack}; a new one is drawn at random, and training has to teach it first")
        return model


def _check_float32(model: torch.nn.Module, name: str) -> None:
    for part, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise SpeechkdError(
                f"{name}: transformers keeps {part} in {tensor.dtype}, where float32 was asked "
                "for. Such an encoder is not trained or judged here."
            )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Args:
        name: a folder or a hub id.

    Raises:
        SpeechkdError: nothing can be loaded, or the tokenizer makes short texts endless.
    """
    with _loading(name):
        _need(name, "tokenizer_config.json")
        if Path(name).is_dir():
            check_model_folder(Path(name))
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, trust_remote_code=False
        )
    for option in ("is_local", "local_files_only"):  # saved with it, they would change its digest
        tokenizer.init_kwargs.pop(option, None)
    return tokenizer


@contextmanager
def panics_as_errors(what: str) -> Iterator[None]:
    """Turn a panic of the tokenizers' library, which is no `Exception`, into an error.

    Raises:
        SpeechkdError: the library gave up, for instance on an endless regular expression.
    """
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        unless_of_memory(error)
        raise SpeechkdError(
            f"{what}: the tokenizer's rules cannot be followed ({str(error)[:200]}). Use another "
            "tokenizer."
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' notices and progress bars off the screen while the block runs."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turn whatever transformers raises into one error, and keep its notices off the screen.

    It reports each weight that a model leaves out, such as a head. Missing weights are checked
    here instead.
    """
    try:
        with quiet(), panics_as_errors(name):
            yield
    except SpeechkdError:
        raise
    except Exception as error:  # transformers and what it calls raise a dozen unrelated kinds
        unless_of_memory(error)
        raise SpeechkdError(
            f"{name} cannot be loaded as a Hugging Face encoder with safetensors weights: "
            f"{first_line(error)}. Name an existing local folder, or a hub id while online."
        ) from error


def _need(name: str, file: str) -> None:
    if Path(name).exists() and not (Path(name) / file).is_file():
        raise NotThere(
            f"{name} has no {file}, so it is not a Hugging Face folder of that kind. Name a "
            "folder written by save_pretrained, the student/ of a distill run, or a hub id."
        )
    if not Path(name).exists() and not isinstance(try_to_load_from_cache(name, file), str):
        _ask_hub(name)


def _ask_hub(name: str) -> None:
    """Ask the hub once for a name; loading would try for half a minute before it gives up."""
    try:
        HfApi().model_info(name, timeout=10)
    except RepositoryNotFoundError:
        raise Unreachable(
            f"There is no folder {name}, and the hub has no such model that you may read. Correct "
            "the name; for a private model log in with `hf auth login`."
        ) from None
    except HfHubHTTPError:
        return  # the hub answers, so loading may work, or says why it does not
    except Exception as error:  # what the network library raises changes with its version
        unless_of_memory(error)
        raise Unreachable(
            f"There is no folder {name}, and the hub cannot be reached ({error}). Name an existing "
            "local folder, or a hub id while online."
        ) from None


def check_model_folder(folder: Path) -> None:
    """Check the configuration and the tokenizer of a folder before anything is loaded from it.

    Raises:
        SpeechkdError: the configuration has numbers that no model has or names code, or the
            tokenizer makes short texts endless.
    """
    if (folder / "config.json").is_file():
        check_config(folder / "config.json")
    if (folder / "tokenizer.json").is_file():
        _check_tokenizer(folder / "tokenizer.json")


def check_config(path: Path) -> None:
    """Check that a configuration has no absurd numbers and names no code.

    Raises:
        SpeechkdError: it is no JSON object, has numbers that no model has, or names code.
    """
    _check_claims(_object(path, MAX_CONFIG_BYTES), str(path))


def _check_claims(config: dict[str, Any], where: str) -> None:
    for name, value in _leaves(config):
        if "_implementation" in name and value not in (None, *OWN_ATTENTION):
            raise SpeechkdError(
                f"{where}: {name} is {value!r}, which may be code from the hub; such a model is "
                "refused. Remove the entry if the model works without it."
            )
        if not isinstance(value, int | float) or not math.isfinite(value):
            continue
        most = MAX_LAYERS if "layers" in name or name in ("n_layer", "depth") else MAX_NUMBER
        if abs(value) > most:
            raise SpeechkdError(f"{where}: {name} is {value:,}; no model has more than {most:,}.")


def check_parameters(folder: Path, model: Any) -> None:
    """Check that a model is not far larger than its weights; the rest would be made up.

    Args:
        folder: the folder that holds its safetensors.
        model: the model on PyTorch's meta device, where it takes no memory.

    Raises:
        SpeechkdError: the model has far more parameters than its files have bytes.
    """
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters > stored + SPARE_PARAMETERS:
        raise Damaged(
            f"{folder}: config.json describes {parameters:,} parameters, and the safetensors "
            f"beside it have {stored:,} bytes. They do not belong to one model."
        )


def _object(path: Path, most: int) -> dict[str, Any]:
    size = path.stat().st_size
    if size > most:
        raise SpeechkdError(f"{path} has {size:,} bytes; at most {most:,} are read.")
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise Damaged(f"{path} is not JSON ({error}).") from None
    if not isinstance(content, dict):
        raise Damaged(f"{path} is not a JSON object.")
    return content


def _leaves(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every plain value of a configuration, with the name that it has there."""
    parts: list[tuple[str, Any]] = list(config.items())
    while parts:
        name, value = parts.pop()
        if isinstance(value, dict):
            parts += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            parts += [(name, inner) for inner in value]
        else:
            yield name, value


def _check_tokenizer(path: Path) -> None:
    tokenizer = _object(path, MAX_TOKENIZER_BYTES)
    growth = 1.0
    for rule in _rules(tokenizer.get("normalizer")):
        growth *= _growth(rule)
        if growth > MAX_GROWTH:
            raise SpeechkdError(
                f"{path}: its normalizer can make a text over {MAX_GROWTH} times as long; such a "
                "tokenizer is refused."
            )


def _rules(part: Any) -> Iterator[dict[str, Any]]:
    """The rules of a normalizer; a sequence of rules gives each of them."""
    parts = [part]
    while parts:
        rule = parts.pop()
        if isinstance(rule, list):
            parts += rule
        elif isinstance(rule, dict):
            parts.append(rule.get("normalizers"))
            yield rule


def _growth(rule: dict[str, Any]) -> float:
    """How many times as long one rule can make a text, at most."""
    pattern, content = rule.get("pattern"), rule.get("content", rule.get("prepend"))
    if not isinstance(content, str):
        return 1.0
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    # a regular expression can match every letter, and the gap before it
    return max(1.0, len(content) / len(replaced) if replaced else 2 * len(content))
