"""Tiny encoders with random weights, saved as ordinary Hugging Face folders."""

from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from tokenizers.processors import BertProcessing
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
)


def save_kind(folder: Path, texts: list[str], kind: str, **settings: object) -> Path:
    """A 2-layer encoder of any kind of masked LM, with the tokenizer of `save_encoder`."""
    save_encoder(folder, texts)
    (folder / "model.safetensors").unlink()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,  # so that texts that read each other show it
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


def save_encoder(
    folder: Path, texts: list[str], *, seed: int = 0, width: int = 32, positions: int = 64
) -> Path:
    """A 2-layer BERT whose word pieces are made from `texts`."""
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=300, show_progress=False)
    pieces.post_processor = BertProcessing(
        ("[SEP]", pieces.token_to_id("[SEP]")), ("[CLS]", pieces.token_to_id("[CLS]"))
    )
    names = ("unk", "cls", "sep", "pad", "mask")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer,
        **{f"{name}_token": f"[{name.upper()}]" for name in names},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=positions,
        )
        BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
