"""WhisBERT as files: one folder with all encoders and heads, which loads back as it was."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerBase

from pipeline.foundation.errors import Damaged, first_line, unless_of_memory
from pipeline.models.loading import check_config, check_parameters, load_tokenizer
from pipeline.models.student import Student
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.models.whisbert.loading import CONFIG, TEXT, WEIGHTS, read_config
from pipeline.pretraining.whisbert.losses import LOSSES
from pipeline.pretraining.whisbert.module import Shape, WhisBERT

FORMAT = 1


def save(
    model: WhisBERT, tokenizer: PreTrainedTokenizerBase, reads: dict[str, Any], folder: Path
) -> None:
    """Write all encoders and heads.

    Args:
        model: the model.
        tokenizer: of its texts.
        reads: what its frames are: kind and settings of the cache.
        folder: where to; it exists and is empty.
    """
    shape = model.shape
    content = {
        "format": FORMAT,
        "weights": model.weights,
        "reads": reads,
        "shape": {
            "frame_width": shape.frame_width,
            "per_patch": shape.per_patch,
            "audio": vars(shape.audio),
            "fusion": vars(shape.fusion),
            "normed": shape.normed,
            "kappa": shape.kappa,
            "temperature": shape.temperature,
            "learned": shape.learned,
        },
    }
    (folder / CONFIG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    model.student.model.config.save_pretrained(folder / TEXT)
    tokenizer.save_pretrained(folder / TEXT)
    save_model(model, str(folder / WEIGHTS))


def load(folder: Path) -> tuple[WhisBERT, PreTrainedTokenizerBase]:
    """Load what `save` wrote: `RUN/whisbert`.

    Raises:
        NotThere: there is no such folder.
        Damaged: its files do not belong together.
        SpeechkdError: the tokenizer or the text encoder's configuration is refused.
    """
    content = read_config(folder)
    check_config(folder / TEXT / "config.json")
    try:
        shape = content["shape"]
        sizes = {side: LayerSizes(**shape[side]) for side in ("audio", "fusion")}
        weights = {
            name: float(content["weights"][name]) for name in LOSSES if name in content["weights"]
        }
        config = AutoConfig.from_pretrained(folder / TEXT, trust_remote_code=False)

        def build() -> WhisBERT:
            text = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
            return WhisBERT(Student(text, str(folder)), weights, Shape(**{**shape, **sizes}))

        with torch.random.fork_rng(devices=[]):
            with torch.device("meta"):
                check_parameters(folder, build())
            model = build()
        load_model(model, str(folder / WEIGHTS))
    except Damaged:
        raise
    except Exception as error:  # damaged files may fail in any way
        unless_of_memory(error)
        raise Damaged(f"{folder} cannot be loaded: {first_line(error)}") from error
    model.eval()
    return model, load_tokenizer(str(folder / TEXT))
