"""Which kinds of encoders can be used, and how: tiny random models of every masked-LM kind.

python bench/encoders.py            prints the table
python bench/encoders.py --write    puts it into docs/encoders.md
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.checking import find_reading
from pipeline.models.student import Student

PAGE = Path(__file__).parent.parent / "docs" / "encoders.md"
MARK = "<!-- made by bench/encoders.py; everything below is overwritten -->"
WITHOUT_HEAD = ("xlnet", "gpt2", "t5")
"""Kinds that are no masked LM, but that somebody might fine-tune."""
SMALL: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "embedding_size": 16, "d_model": 32, "d_head": 16, "d_inner": 64,
    "n_head": 2, "n_layer": 2, "n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64,
    "emb_dim": 32, "n_embd": 32, "max_position_embeddings": 64, "num_key_value_heads": 2,
    "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_layers": 2,
    "d_kv": 16, "d_ff": 64, "num_heads": 2,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2,
}  # fmt: skip
INSIDE = ("text_config",)
OF_A_KIND: dict[str, dict[str, Any]] = {
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1, "num_hidden_layers": None,
               "architectures": ["FunnelForMaskedLM"]},
    "luke": {"entity_vocab_size": 9, "entity_emb_size": 16},
    "perceiver": {
        "num_latents": 4, "d_latents": 32, "num_self_attends_per_block": 2,
        "num_self_attention_heads": 2, "num_cross_attention_heads": 2,
    },
    "reformer": {
        "axial_pos_shape": (8, 8), "axial_pos_embds_dim": (16, 16), "attention_head_size": 16,
        "feed_forward_size": 64, "attn_layers": ["local", "lsh"], "num_buckets": 2,
        "is_decoder": False,
    },
    "roc_bert": {"shape_vocab_size": 9, "pronunciation_vocab_size": 9},
    "squeezebert": {"embedding_size": 32},
    "xmod": {"default_language": "en_XX"},
}  # fmt: skip


def tiny_config(kind: str) -> Any:
    """A small configuration of a kind, with what else that kind must have."""
    whole = AutoConfig.for_model(kind).to_dict()
    wanted = SMALL | OF_A_KIND.get(kind, {})
    changes = {n: v for n, v in wanted.items() if n in whole and v is not None}
    for part in INSIDE:
        if isinstance(whole.get(part), dict):
            inner = {n: v for n, v in SMALL.items() if n in whole[part]}
            changes[part] = {**whole[part], **inner, "layer_types": None}
    return AutoConfig.for_model(kind, **changes)


def tiny_model(kind: str, auto: Any) -> Any:
    """A model of a kind; what a kind begins with as zeros is moved, as training would."""
    torch.manual_seed(0)
    model = auto.from_config(tiny_config(kind)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def row(kind: str) -> list[str]:
    """A kind's line of the table."""
    cells = []
    for auto in (AutoModel, AutoModelForMaskedLM):
        if auto is AutoModelForMaskedLM and kind in WITHOUT_HEAD:
            cells.append("no: no masked LM")
            continue
        try:
            model = tiny_model(kind, auto)
            if auto is AutoModel:
                cells.append(find_reading(model, kind).layout)
            else:
                Student(model, kind)
                cells.append("yes")
        except SpeechkdError as error:
            cells.append("no: " + _reason(str(error)))
    return [f"`{kind}`", *cells]


def _reason(message: str) -> str:
    """Why a kind is refused, in few words."""
    for words, reason in {
        "a decoder": "an encoder with a decoder",
        "token ids alone": "it does not read token ids alone",
        "neighbours": "its attention does nothing here",
        "head": "its head cannot be run apart",
    }.items():
        if words in message:
            return reason
    return "texts at once change each other"


def table() -> str:
    """All kinds as Markdown, with the version of transformers that they come from."""
    lines = [
        f"transformers {transformers.__version__}.",
        "",
        "| kind (`model_type`) | fine-tuned | as a student, in `probe blimp` |",
        "|---|---|---|",
    ]
    kinds = [*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *WITHOUT_HEAD]
    return "\n".join([*lines, *(f"| {' | '.join(row(kind))} |" for kind in kinds)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/encoders.md")
    transformers.logging.set_verbosity_error()
    if not parser.parse_args().write:
        print(table())
        return
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(f"{head}{MARK}\n\n{table()}", encoding="utf-8")


if __name__ == "__main__":
    main()
