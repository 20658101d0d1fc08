"""A step of CTAL, packed, beside the same model in Hugging Face's classes on padded batches.

Both compute the same losses of the same batch, forward and backward, without dropout; the sides
take turns, so that other load on the machine falls on both, and time is the processor's, so that
what others take of it counts for neither.

    .venv/bin/python bench/pretrain_ctal.py --width 768 --layers 3 --stack 4 --clips 8

Shapes: F positions of frames, N tokens, of all clips.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaForMaskedLM

from pipeline.models.lengths import Lengths
from pipeline.models.packing import pack
from pipeline.models.student import Student
from pipeline.models.text_referred import AudioConfig, AudioStack
from pipeline.pretraining.ctal.costs import audio_flops, text_flops

MOST_FRAMES, TOKENS = 1200, (10, 40)
"""Frames of the longest clip, and tokens of the shortest and the longest one."""
COLUMNS, VOCABULARY, CHOSEN = 160, 30_000, 0.15


def parse() -> argparse.Namespace:
    """Sizes from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (
        ("width", 768), ("layers", 3), ("stack", 4), ("clips", 8), ("steps", 3),
        ("least-frames", 300),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def main() -> None:
    """Print seconds of a processor per step of both sides, their ratio, operations per second."""
    sizes = parse()
    torch.manual_seed(0)
    heads = max(1, sizes.width // 64)
    positions = MOST_FRAMES // sizes.stack
    config = AudioConfig(
        columns=COLUMNS * sizes.stack, width=sizes.width, text_width=sizes.width,
        layers=sizes.layers, heads=heads, inner_width=4 * sizes.width, positions=positions,
        dropout=0.0,
    )  # fmt: skip
    shape = {
        "hidden_size": sizes.width, "num_hidden_layers": sizes.layers,
        "num_attention_heads": heads, "intermediate_size": 4 * sizes.width,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    model, plain_text = (
        RobertaForMaskedLM(RobertaConfig(vocab_size=VOCABULARY, pad_token_id=1, **shape))
        for _ in range(2)
    )
    student, audio = Student(model), AudioStack(config)
    plain = BertModel(
        BertConfig(vocab_size=1, is_decoder=True, add_cross_attention=True, **shape),
        add_pooling_layer=False,
    ).encoder
    head = nn.Linear(sizes.width, COLUMNS * sizes.stack)
    counts = torch.linspace(sizes.least_frames, MOST_FRAMES, sizes.clips).long() // sizes.stack
    tokens = torch.linspace(*TOKENS, sizes.clips).long()
    lengths, ids = Lengths.of(counts), torch.randint(5, VOCABULARY, (int(tokens.sum()),))
    packed = pack(ids, tokens)
    values = torch.randn(int(counts.sum()), config.columns)
    hidden_F = torch.rand(len(values)) < CHOSEN
    masked_N = torch.rand(len(ids)) < CHOSEN
    target = torch.randn(int(hidden_F.sum()), config.columns)

    def ours() -> Tensor:
        states = student(packed)
        mlm = student.masked_lm_loss(states, ids, masked_N.nonzero()[:, 0])
        states_of_audio = audio(values, lengths, states, packed)
        loss: Tensor = mlm + (head(states_of_audio[hidden_F]) - target).abs().sum()
        return loss

    grid, valid = lengths.grid_BL, lengths.valid_BL
    text_grid, text_valid = packed.grid_BL, packed.valid_BL
    of_audio, of_text = (
        torch.zeros(v.shape)
        .masked_fill(~v, torch.finfo().min)[:, None, None, :]
        .expand(-1, 1, grid.shape[1], -1)
        for v in (valid, text_valid)
    )

    def theirs() -> Tensor:
        out = plain_text.roberta(
            input_ids=ids[text_grid].masked_fill(~text_valid, 1), attention_mask=text_valid.long()
        ).last_hidden_state
        logits = plain_text.lm_head(out)[text_valid][masked_N]
        mlm = nn.functional.cross_entropy(logits, ids[masked_N], reduction="sum")
        offsets = torch.arange(grid.shape[1]).expand_as(grid)
        states_of_audio = plain(
            audio.embeddings(values[grid], offsets), attention_mask=of_audio,
            encoder_hidden_states=out, encoder_attention_mask=of_text, use_cache=False,
        ).last_hidden_state  # fmt: skip
        loss: Tensor = mlm + (head(states_of_audio[valid][hidden_F]) - target).abs().sum()
        return loss

    sides: dict[str, Callable[[], Tensor]] = {"packed": ours, "padded": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(sizes.steps + 1):
        for name, step in sides.items():
            started = time.process_time()
            torch.autograd.backward(step())
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - started)
    flops = 3 * sum(
        audio_flops(config, f, t) + text_flops(student, t)
        for f, t in zip(counts.tolist(), tokens.tolist(), strict=True)
    )
    packed_s, padded_s = (statistics.median(seconds[name]) for name in sides)
    print(
        f"{sizes.layers} layers, {sizes.width} wide, stack {sizes.stack}, {sizes.clips} clips of "
        f"{sizes.least_frames} to {MOST_FRAMES} frames, {torch.get_num_threads()} threads: packed "
        f"{packed_s:.2f} s, padded by Hugging Face {padded_s:.2f} s, {padded_s / packed_s:.2f} "
        f"times as fast; {flops / packed_s / 1e9:.1f} GFLOP/s"
    )


if __name__ == "__main__":
    main()
