"""A step of WhisBERT against the straightforward one: padded, each loss with passes of its own.

    python -m bench.pretrain_whisbert CACHE [--rounds 5] [--batch 16] [--costs]

CACHE is a cache of Whisper's log-mel. Both steps have the same weights, clips, masks and losses,
forward and backward. The straightforward one pads texts and audio to the longest of the batch and
gives each of mlm, mmm, atm and mmc a text pass, each of mam, mmm, atm and mmc a stem and an audio
pass, and mmm and atm a fusion pass each, as the released code does. They take turns.

With --costs no time is measured but what a plan announces: operations of a step beside those that
torch counts, and memory and waiting for frames of a run of the command.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.whisper.modeling_whisper import sinusoids

from bench import announced
from pipeline.models.whisbert.layers import Layers
from pipeline.pretraining.running import assemble
from pipeline.pretraining.whisbert.batches import PairBatch
from pipeline.pretraining.whisbert.contrast import within_clip
from pipeline.pretraining.whisbert.costs import Clip, clip_flops, pass_flops
from pipeline.pretraining.whisbert.losses import Loss
from pipeline.pretraining.whisbert.method import Whisbert
from pipeline.pretraining.whisbert.module import WhisBERT
from pipeline.pretraining.whisbert.settings import WhisbertSettings

ALL: list[Loss] = ["mlm", "mam", "mmc", "mmm", "atm"]


def padded_layers(layers: Layers, states_BLD: Tensor, valid_BL: Tensor) -> Tensor:
    """Whisper's layers by transformers' own attention, under a mask."""
    mask = torch.zeros(valid_BL.shape).masked_fill(~valid_BL, torch.finfo(torch.float32).min)
    mask = mask[:, None, None, :].expand(-1, 1, valid_BL.shape[1], -1)
    for layer in layers.layers:
        attention: Any = layer.self_attn
        before = attention.config._attn_implementation
        attention.config._attn_implementation = "sdpa"
        states_BLD = layer(states_BLD, mask)
        attention.config._attn_implementation = before
    normed: Tensor = layers.norm(states_BLD)
    return normed


class Straightforward:
    """The losses of a batch without packing and without shared passes.

    Args:
        model: whose weights it has.
        made: the batch.
    """

    def __init__(self, model: WhisBERT, made: PairBatch) -> None:
        assert made.audio is not None  # noqa: S101 - all losses are on
        self.model, self.made, self.audio = model, made, made.audio
        packed, inner = made.text.packed, made.audio.places.inner
        self.text_valid, self.patch_valid = packed.valid_BL, inner.valid_BL
        longest = int(inner.lengths_B.max()) * model.shape.per_patch
        frames = made.audio.frames
        clips = torch.split(
            frames.frames_LW[frames.inside_L], (inner.lengths_B * model.shape.per_patch).tolist()
        )
        self.frames_BFW = torch.stack(
            [functional.pad(clip, (0, 0, 0, longest - len(clip))) for clip in clips]
        )
        self.inside_BF = torch.stack([torch.arange(longest) < len(clip) for clip in clips])

    def text(self, ids_N: Tensor) -> Tensor:
        """A text pass, padded."""
        packed, encoder = self.made.text.packed, self.model.student.encoder
        ids_BL = torch.where(packed.valid_BL, ids_N[packed.grid_BL], 0)
        before = encoder.config._attn_implementation
        encoder.set_attn_implementation("sdpa")
        states: Tensor = encoder(
            input_ids=ids_BL, attention_mask=packed.valid_BL.long()
        ).last_hidden_state
        encoder.set_attn_implementation(before)
        return states

    def audio_pass(self, masked: bool) -> tuple[Tensor, Tensor]:
        """A stem and an audio pass, padded: patches and states with their CLS."""
        speech: Any = self.model.speech
        stem, inner = speech.stem, self.audio.places.inner
        u = functional.gelu(stem.first(functional.pad(self.frames_BFW.transpose(1, 2), (7, 8))))
        u = u * self.inside_BF[:, None]
        z = functional.gelu(stem.second(functional.pad(u, (3, 3)))).transpose(1, 2)
        patches_BPD = stem.norm(z)
        inputs_BPD = patches_BPD
        if masked:
            hidden = self.audio.hidden.masked_P[inner.grid_BL] & inner.valid_BL
            inputs_BPD = torch.where(hidden[:, :, None], speech.mask_D, patches_BPD)
        inputs_BPD = inputs_BPD + sinusoids(inputs_BPD.shape[1], speech.width)
        cls = speech.cls_D.expand(len(inputs_BPD), 1, -1)
        valid = functional.pad(inner.valid_BL, (1, 0), value=True)
        return patches_BPD, padded_layers(speech.layers, torch.cat([cls, inputs_BPD], 1), valid)

    def fused(self, audio_BAD: Tensor, text_BLD: Tensor, order: Tensor) -> Tensor:
        """A fusion pass, padded; `order` says whose text joins each audio."""
        fusion: Any = self.model.fusion
        text_BLD, text_valid = text_BLD[order], self.text_valid[order]
        audio = fusion.from_audio(audio_BAD) + fusion.audio_D
        text = fusion.from_text(text_BLD) + fusion.text_D
        audio = audio + sinusoids(audio.shape[1], fusion.width)
        text = text + sinusoids(text.shape[1], fusion.width)
        cls = fusion.cls_D.expand(len(audio), 1, -1)
        patch_valid = functional.pad(self.patch_valid, (2, 0), value=True)
        return padded_layers(
            fusion.layers, torch.cat([cls, audio, text], 1), torch.cat([patch_valid, text_valid], 1)
        )

    def contrast(self, head: Any, states_BAD: Tensor, patches_BPD: Tensor) -> Tensor:
        """Hidden patches against others."""
        inner, hidden = self.audio.places.inner, self.audio.hidden
        at = (inner.sequence_N[hidden.place_K], inner.offset_N[hidden.place_K])
        predicted = head(states_BAD[:, 1:][at])
        return within_clip(predicted, patches_BPD[inner.valid_BL], hidden, 0.1).mean()

    def losses(self) -> dict[str, Tensor]:
        """All six parts of the sum."""
        model: Any = self.model
        made, text = self.made, self.made.text
        packed, clips = text.packed, torch.arange(len(text.packed.lengths_B))
        at = (packed.sequence_N[text.chosen_K], packed.offset_N[text.chosen_K])
        truth = packed.ids_N[text.chosen_K]
        logits_KV = model.student.masked_lm_logits(self.text(text.masked_N)[at])
        losses = {"mlm": functional.cross_entropy(logits_KV, truth)}
        patches, states = self.audio_pass(True)
        losses["mam"] = self.contrast(model.audio_head, states, patches)
        clean_text, (_, clean_audio) = self.text(packed.ids_N), self.audio_pass(False)
        a = functional.normalize(model.clip_heads.audio(clean_audio[:, 0]), dim=1)
        t = functional.normalize(model.clip_heads.text(clean_text[:, 0]), dim=1)
        compared_BB = made.rivals_BB | torch.eye(len(clips), dtype=torch.bool)
        logits = (model.clip_heads.scale() * a @ t.T).masked_fill(~compared_BB, -torch.inf)
        each = functional.cross_entropy(logits, clips) + functional.cross_entropy(logits.T, clips)
        losses["mmc"] = each / 2
        patches, states = self.audio_pass(True)
        pairs_BLD = self.fused(states, self.text(text.masked_N), clips)
        embedding = model.student.encoder.get_input_embeddings().weight
        words = pairs_BLD[:, 2 + self.patch_valid.shape[1] :][at]
        losses["mmm_text"] = functional.cross_entropy(
            model.joint_text_head(words, embedding), truth
        )
        audio = pairs_BLD[:, 1 : 2 + self.patch_valid.shape[1]]
        losses["mmm_audio"] = self.contrast(model.joint_audio_head, audio, patches)
        _, states = self.audio_pass(True)
        words_again = self.text(text.masked_N)
        half = [self.fused(states, words_again, order)[:, 0] for order in (clips, clips.roll(1))]
        label = torch.arange(2 * len(clips)) < len(clips)
        losses["atm"] = functional.cross_entropy(model.match_head(torch.cat(half)), label.long())
        return losses

    def loss(self) -> Tensor:
        """Their sum."""
        return sum(self.losses().values(), torch.zeros(()))


def shared_loss(model: WhisBERT, batch: PairBatch) -> Tensor:
    """The loss by shared and packed passes."""
    loss: Tensor = model(batch)["loss"]
    return loss


def seconds(step: Callable[[], Tensor], model: WhisBERT) -> float:
    """Time of one step, forward and backward."""
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    step().backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - started


def operations(method: Whisbert, parts: Any) -> None:
    """Print what torch counts of a step beside what the plan says, forward, and with backward.

    torch counts attention where it is plain products, padding of packed clips included. The plan
    has what is left of it, and takes backward for twice forward; but no gradient goes into frames.
    """
    model: Any = parts.module
    made: Any = method.maker(parts.data)(parts.batches.epoch(0)(0))
    clips = len(made.text.packed.lengths_B)
    frames = int(made.audio.frames.inside_L.sum()) / clips
    sizes = Clip(frames, len(made.text.packed.ids_N) / clips)
    share = len(made.text.chosen_K) / len(made.text.packed.ids_N)
    each = pass_flops(model.student, model.shape, sizes, share)
    planned = clips * clip_flops(each, model.weights)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model(made)["loss"]
        forward = counter.get_total_flops()
        loss.backward()
    whole = counter.get_total_flops()
    into_frames = clips * frames * 2 * model.shape.frame_width * 16 * model.shape.audio.width
    print(
        f"GFLOP of a step of {clips} clips: forward {forward / 1e9:.2f} counted, "
        f"{planned / 1e9:.2f} planned ({forward / planned - 1:+.1%}); with backward "
        f"{whole / 1e9:.2f} counted, {3 * planned / 1e9:.2f} planned "
        f"({whole / (3 * planned) - 1:+.1%}), of which {into_frames / 1e9:.2f} for gradients of "
        "frames, which nobody needs"
    )


def run_costs(options: argparse.Namespace, folder: Path) -> None:
    """Print memory and waiting of a run of the command beside what it says beforehand."""
    flags = {
        "--student": options.student, "--width": options.width, "--heads": options.width // 64,
        "--audio-layers": options.layers, "--fusion-layers": options.layers,
        "--batch-size": options.batch, "--vocab-size": 2000, "--held-out": 0.1,
        "--prepared": folder / "prepared", "--out": folder / "run", "--device": "cpu",
    }  # fmt: skip
    words = [str(word) for pair in flags.items() for word in pair]
    limits = ["--max-steps", str(options.rounds), "--log-every", "1", "--measure-every", "1000"]
    used = announced.memory(["pretrain", "whisbert", options.cache, *words, *limits])
    lines = [json.loads(x) for x in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "waited_s" in line]
    waited = sum(line["waited_s"] for line in steps[1:])
    spent = steps[-1]["seconds"] - steps[0]["seconds"]
    print(
        f"memory: {used['announced']:.2f} GB announced, {used['taken']:.2f} GB taken "
        f"({used['announced over taken'] - 1:+.1%}); "
        f"waiting for frames: {waited / spent:.2%} of {spent:.1f} s"
    )


def main() -> None:
    """Let both take turns and print their medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("cache")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--student", default="bert-tiny")
    parser.add_argument("--costs", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        method = Whisbert(
            WhisbertSettings(
                cache=options.cache, out=Path(folder) / "run", losses=list(ALL),
                student=options.student, width=options.width, heads=options.width // 64,
                audio_layers=options.layers, fusion_layers=options.layers, dropout=0.0,
                batch=options.batch, vocab_size=2000, prepared=Path(folder) / "prepared",
            )
        )  # fmt: skip
        parts = assemble(method, method.caches(), torch.device("cpu"))
        parts.ahead.close()
        if options.costs:
            operations(method, parts)
            run_costs(options, Path(folder))
            return
        model: Any = parts.module
        ours, plain = [], []
        for number in range(options.rounds):
            made = method.maker(parts.data)(parts.batches.epoch(0)(number))
            straightforward = Straightforward(model, made)
            if number == 0:
                same(model(made), straightforward.losses())
            ours.append(seconds(partial(shared_loss, model, made), model))
            plain.append(seconds(straightforward.loss, model))
            clips = len(made.text.packed.lengths_B)
            patches = len(straightforward.audio.places.inner.sequence_N)
            print(
                f"round {number + 1}: {clips} clips, {patches:,} patches; shared and packed "
                f"{ours[-1]:.2f} s, straightforward {plain[-1]:.2f} s, "
                f"ratio {plain[-1] / ours[-1]:.2f}",
                flush=True,
            )
    ratios = sorted(b / a for a, b in zip(ours, plain, strict=True))
    print(f"median ratio {ratios[len(ratios) // 2]:.2f} on {torch.get_num_threads()} threads")


def same(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    """Check that both compute the same losses; unmatched pairs are others."""
    for name, value in plain.items():
        if name != "atm":
            torch.testing.assert_close(ours[f"loss/{name}"], value, rtol=2e-4, atol=2e-4)


if __name__ == "__main__":
    main()
