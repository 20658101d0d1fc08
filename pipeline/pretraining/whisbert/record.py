"""What a run of WhisBERT says before it starts, records of itself, and measures at its end.

Shapes: B clips, D width.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.identity import tokenizer_sha256
from pipeline.corpus.row_batches import RowBatch
from pipeline.corpus.row_corpus import TOKENS, Tokens
from pipeline.foundation.hashing import json_sha256
from pipeline.models.student import Student
from pipeline.pretraining.method import Data, Parts
from pipeline.pretraining.text_start import TextStart
from pipeline.pretraining.whisbert import costs
from pipeline.pretraining.whisbert.batches import PairBatch, text_numbers
from pipeline.pretraining.whisbert.lengths_only import length_only
from pipeline.pretraining.whisbert.losses import HEAR, HIDE
from pipeline.pretraining.whisbert.module import WhisBERT
from pipeline.pretraining.whisbert.retrieval import both_ways
from pipeline.pretraining.whisbert.settings import WhisbertSettings
from pipeline.pretraining.whisbert.twin import told_cost

VOLATILE = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}
"""Entries of a model's configuration that say nothing of the model."""
SAID_OTHERWISE = {
    *("student", "init_text", "tokenizer", "vocab_size", "lowercase"),  # by digests
    *("batch", "warmup_fraction", "precision", "epochs"),  # as they came out
    "seed",
}


def model_of(parts: Parts) -> WhisBERT:
    """The module of a run."""
    if not isinstance(parts.module, WhisBERT):
        raise TypeError("the run is of another method")
    return parts.module


def tokenizer_of(data: Data) -> PreTrainedTokenizerBase:
    """The tokenizer of a run's texts."""
    if data.tokenizer is None:
        raise TypeError("the run reads no text")
    return data.tokenizer


def text_corpus(parts: Parts) -> Corpus:
    """The texts of a run as tokens."""
    tokens = parts.data.corpus.parts[TOKENS]
    if not isinstance(tokens, Tokens):
        raise TypeError("the run reads no text")
    return tokens.corpus


def notes(settings: WhisbertSettings, parts: Parts, clip: costs.Clip) -> Iterator[str]:
    """What texts and recordings lack, what a step costs, which control it is."""
    texts, model = text_corpus(parts), model_of(parts)
    yield (
        f"texts: {int(texts.lengths_C.sum()):,} tokens, {texts.truncated:,} texts cut to "
        f"{settings.max_tokens} tokens, {len(texts.dropped)} without text left out"
    )
    yield f"{'WARNING: ' if texts.unknown.too_many else ''}tokenizer: {texts.unknown}"
    yield from _doubts(settings, parts)
    yield told_cost(
        costs.pass_flops(model.student, model.shape, clip, settings.mask_share),
        model.weights,
        settings.epochs,
        parts.batches.clips_per_batch,
    )
    if settings.control != "real" and set(settings.losses) & HEAR:
        yield f"CONTROL: the audio is {settings.control}"
    if settings.mam_span == 1 and set(settings.losses) & HIDE:
        yield (
            "--mam-span 1: a hidden patch shares two thirds of its frames with visible neighbours, "
            "so that a low mam says nothing of speech"
        )


def _doubts(settings: WhisbertSettings, parts: Parts) -> Iterator[str]:
    """Warnings of clips that cannot be told from each other."""
    corpus, on = parts.data.corpus, set(settings.losses)
    recording_C = corpus.recording_C[corpus.train]
    text_C = text_numbers(corpus.texts)[corpus.train]
    if "mmc" in on and len(set(recording_C.tolist())) == 1 and int(recording_C[0]) >= 0:
        yield (
            "WARNING: mmc: all clips to train on are of one recording, and clips of one recording "
            "are never told from each other: it stays 0 and teaches nothing"
        )
    if len(set(text_C.tolist())) == 1 and on & {"mmc", "atm"}:
        yield (
            "WARNING: all clips to train on have the same text, so that no pair of audio and text "
            "is wrong: mmc and atm teach nothing"
        )


def comparable(
    settings: WhisbertSettings, parts: Parts, start: str | None, text_start: TextStart | None
) -> dict[str, Any]:
    """How its text encoder stands to others; the twin is the one without a teacher.

    Args:
        settings: of the run.
        parts: what it is made of.
        start: digest of what the audio encoder begins with; None for fresh weights.
        text_start: what the text encoder begins with; None for fresh weights.
    """
    model = model_of(parts).student.model
    config = {n: v for n, v in model.config.to_dict().items() if n not in VOLATILE}
    of_losses = settings.of_losses()
    free = of_losses | settings.operational() | SAID_OTHERWISE
    values = settings.record()
    others = [name for name in settings.losses if name != "mlm"]
    elsewhere = settings.without_effect() | {"losses", "control", "twin", "weights", "init_audio"}
    teaching = {name: values[name] for name in sorted(of_losses - elsewhere)}
    teaching |= {f"weight of {name}": weight for name, weight in settings.weight_of().items()}
    if start is not None:
        teaching["audio begins with"] = start
    return {
        "objective": f"mlm with {' + '.join(others)}" if others else "none",
        "control": settings.control if others else None,
        "setup": {
            "architecture": model.config.model_type,
            "config": json_sha256(config),
            "weights at the start": text_start.encoder_sha256 if text_start else "fresh",
            "tokenizer": tokenizer_sha256(tokenizer_of(parts.data)),
            **{name: value for name, value in values.items() if name not in free},
        },
        "teaching": teaching if others else None,
    }


def model_record(settings: WhisbertSettings, parts: Parts, clip: costs.Clip) -> dict[str, Any]:
    """What `run.json` says of the model, its cost, and what lengths alone give."""
    model, texts = model_of(parts), text_corpus(parts)
    flops = costs.pass_flops(model.student, model.shape, clip, settings.mask_share)
    whole, twin = costs.clip_flops(flops, model.weights), costs.clip_flops(flops, {"mlm": 1.0})
    record: dict[str, Any] = {
        "losses": model.weights,
        "chance": chances(model.student, settings),
        "parameters": {
            "text": _count(model.student),
            "audio": _count(model.speech),
            "fusion": _count(model.fusion),
            "all": _count(model),
        },
        "texts": {
            "tokens": int(texts.lengths_C.sum()),
            "truncated": texts.truncated,
            "dropped": texts.dropped,
            "unknown_tokens": texts.unknown.record(),
            "vocabulary": len(tokenizer_of(parts.data)),
        },
        "cost": {
            "passes": costs.passes(model.weights),
            "forward_flops_per_clip": flops,
            "times_twin": whole / twin,
        },
    }
    if set(settings.losses) & HEAR:
        record["length_only"] = length_only(
            parts.data.corpus,
            parts.batches.clips,
            model.shape.per_patch,
            seed=settings.seed,
            matching="atm" in model.weights,
            contrast="mmc" in model.weights,
        )
    return record


def chances(student: Student, settings: WhisbertSettings) -> dict[str, float]:
    """Each loss of a model that knows nothing, in nats; that of `mmc` depends on the batch."""
    vocabulary = math.log(int(student.model.config.vocab_size))
    patches = math.log(1 + settings.mam_negatives)
    of_loss = {"mlm": vocabulary, "mam": patches, "mmm_text": vocabulary, "mmm_audio": patches}
    on = set(settings.losses)
    values = {name: value for name, value in of_loss.items() if name.partition("_")[0] in on}
    return {**values, **({"atm": math.log(2)} if "atm" in on else {})}


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())


@torch.no_grad()
def held_out_retrieval(parts: Parts, make: Callable[[RowBatch], PairBatch]) -> dict[str, Any]:
    """How well the audio of a held-out clip finds its text, and the text its audio.

    Args:
        parts: of the run; its module is put into evaluation.
        make: makes what the module takes.
    """
    model, corpus = model_of(parts), parts.data.corpus
    model.eval()
    sides: list[tuple[torch.Tensor, torch.Tensor]] = []
    for number, clip_B in enumerate(torch.split(corpus.held_out, parts.batches.clips_per_batch)):
        batch = replace(parts.batches, process=0, processes=1).make(clip_B, "retrieval", 0, number)
        pairs = make(batch).to(parts.device)
        audio_BD, text_BD = (x.float() for x in model.embed(pairs))
        unit = nn.functional.normalize
        sides.append((unit(audio_BD, dim=1).cpu(), unit(text_BD, dim=1).cpu()))
    audio_BD, text_BD = (torch.cat(side).double() for side in zip(*sides, strict=True))
    return both_ways(
        lambda query: audio_BD[query] @ text_BD.T,
        lambda query: text_BD[query] @ audio_BD.T,
        text_numbers(corpus.texts)[corpus.held_out],
        corpus.recording_C[corpus.held_out],
    )
