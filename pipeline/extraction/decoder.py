"""Whisper's text decoder, cut down to what word times need: where its alignment heads look.

Shapes: B clips, L tokens (padded at the end), T encoder positions (20 ms each), E width, H heads
of a layer, A alignment heads, W width of a head.

A transcript is read in one pass (teacher forcing), without a search. Arithmetic and parameter
names are those of `transformers.models.whisper.WhisperDecoder`. Three things are left out because
nothing here needs them: logits, the layers above the last one that has an alignment head, and in
that layer all but the queries and keys of the alignment heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.foundation.errors import Damaged

AlignmentHeads = tuple[tuple[int, int], ...]
"""Layer and head of each cross-attention head that follows the audio."""


@dataclass(frozen=True)
class DecoderShape:
    """What decides the size of a decoder, under the names of Hugging Face's `config.json`."""

    d_model: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    vocab_size: int
    max_target_positions: int


class SelfAttention(nn.Module):
    """Each token attends to itself and to those before it."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """`[B, L, E]` → `[B, L, E]`."""
        batch, length, d_model = x_BLE.shape
        qkv_BL3HW = self.qkv_proj(x_BLE).view(batch, length, 3, self.heads, -1)
        q_BHLW, k_BHLW, v_BHLW = qkv_BL3HW.permute(2, 0, 3, 1, 4)
        mixed_BHLW = nn.functional.scaled_dot_product_attention(
            q_BHLW, k_BHLW, v_BHLW, is_causal=True
        )
        mixed_BLE: torch.Tensor = self.out_proj(
            mixed_BHLW.transpose(1, 2).reshape(batch, length, d_model)
        )
        return mixed_BLE


class CrossAttention(nn.Module):
    """Tokens attend to the audio."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.kv_proj = nn.Linear(d_model, 2 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(
        self, x_BLE: torch.Tensor, audio_BTE: torch.Tensor, alignment_heads: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`[B, L, E]`, and of the alignment heads the scores `[B, A, L, T]` before the softmax."""
        batch, length, d_model = x_BLE.shape
        q_BHLW = self.q_proj(x_BLE).view(batch, length, self.heads, -1).transpose(1, 2)
        kv_BT2HW = self.kv_proj(audio_BTE).view(batch, audio_BTE.shape[1], 2, self.heads, -1)
        k_BHTW, v_BHTW = kv_BT2HW.permute(2, 0, 3, 1, 4)
        mixed_BHLW = nn.functional.scaled_dot_product_attention(q_BHLW, k_BHTW, v_BHTW)
        mixed_BLE = self.out_proj(mixed_BHLW.transpose(1, 2).reshape(batch, length, d_model))
        chosen = list(alignment_heads)
        return mixed_BLE, _scores(q_BHLW[:, chosen], k_BHTW[:, chosen])

    def scores(
        self, x_BLE: torch.Tensor, audio_BTE: torch.Tensor, alignment_heads: Sequence[int]
    ) -> torch.Tensor:
        """The same scores `[B, A, L, T]`, where nothing else of the layer is needed."""
        width = x_BLE.shape[-1] // self.heads
        rows = torch.cat([torch.arange(h * width, (h + 1) * width) for h in alignment_heads])
        rows = rows.to(x_BLE.device)
        q_BLF = nn.functional.linear(x_BLE, self.q_proj.weight[rows], self.q_proj.bias[rows])
        k_BTF = nn.functional.linear(audio_BTE, self.kv_proj.weight[rows])  # the key has no bias
        q_BAWL, k_BAWT = (
            x.view(*x.shape[:2], -1, width).permute(0, 2, 3, 1) for x in (q_BLF, k_BTF)
        )
        return _scores(q_BAWL.transpose(2, 3), k_BAWT.transpose(2, 3))


class DecoderLayer(nn.Module):
    """One pre-norm layer: itself, the audio, two matrices."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        d_model, heads = shape.d_model, shape.decoder_attention_heads
        self.self_attn = SelfAttention(d_model, heads)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.encoder_attn = CrossAttention(d_model, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, shape.decoder_ffn_dim)
        self.fc2 = nn.Linear(shape.decoder_ffn_dim, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def attend_to_text(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """The first part of the layer."""
        mixed_BLE: torch.Tensor = x_BLE + self.self_attn(self.self_attn_layer_norm(x_BLE))
        return mixed_BLE

    def forward(
        self, x_BLE: torch.Tensor, audio_BTE: torch.Tensor, alignment_heads: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next hidden states, and the scores of the alignment heads."""
        x_BLE = self.attend_to_text(x_BLE)
        heard_BLE, scores_BALT = self.encoder_attn(
            self.encoder_attn_layer_norm(x_BLE), audio_BTE, alignment_heads
        )
        x_BLE = x_BLE + heard_BLE
        x_BLE = x_BLE + self.fc2(nn.functional.gelu(self.fc1(self.final_layer_norm(x_BLE))))
        return x_BLE, scores_BALT

    def last_scores(
        self, x_BLE: torch.Tensor, audio_BTE: torch.Tensor, alignment_heads: Sequence[int]
    ) -> torch.Tensor:
        """The scores of the alignment heads, if no later layer is needed."""
        x_BLE = self.encoder_attn_layer_norm(self.attend_to_text(x_BLE))
        return self.encoder_attn.scores(x_BLE, audio_BTE, alignment_heads)


class AlignmentDecoder(nn.Module):
    """Tokens and encoder states → scores of the alignment heads. It is built frozen.

    Args:
        shape: of the whole decoder; only the layers that are needed are built.
        heads: the alignment heads, at least one.
    """

    def __init__(self, shape: DecoderShape, heads: AlignmentHeads) -> None:
        super().__init__()
        self.shape, self.heads = shape, heads
        layers = max(layer for layer, _ in heads) + 1
        self.heads_of_layer = [[h for one, h in heads if one == layer] for layer in range(layers)]
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.d_model)
        self.embed_positions = nn.Embedding(shape.max_target_positions, shape.d_model)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(layers))
        self.requires_grad_(False)
        self.eval()

    @torch.inference_mode()
    def forward(self, tokens_BL: torch.Tensor, audio_BTE: torch.Tensor) -> torch.Tensor:
        """Where each token looks, before the softmax over positions.

        Args:
            tokens_BL: int64; what stands after a clip's last token does not change its scores.
            audio_BTE: the encoder's last hidden states.

        Returns:
            Scores `[B, A, L, T]` in the decoder's precision, heads in order of their layers.
        """
        audio_BTE = audio_BTE.to(self.embed_tokens.weight.dtype)
        x_BLE = self.embed_tokens(tokens_BL) + self.embed_positions.weight[: tokens_BL.shape[1]]
        scores = []
        for layer, heads in zip(self.layers[:-1], self.heads_of_layer[:-1], strict=True):
            x_BLE, scores_BALT = layer(x_BLE, audio_BTE, heads)
            scores.append(scores_BALT)
        last: Any = self.layers[-1]
        scores.append(last.last_scores(x_BLE, audio_BTE, self.heads_of_layer[-1]))
        return torch.cat(scores, dim=1)

    @classmethod
    def from_tensors(
        cls,
        shape: DecoderShape,
        heads: AlignmentHeads,
        tensors: dict[str, torch.Tensor],
        where: str,
    ) -> "AlignmentDecoder":
        """Build a decoder from Hugging Face's tensors (names without `model.decoder.`).

        Tensors of layers that are not needed are passed over.

        Raises:
            Damaged: a tensor that is needed is missing, or has another shape than it should.
        """
        with torch.device("meta"):
            decoder = cls(shape, heads)
        wanted = decoder.state_dict()
        fused = _fuse({name: value.float() for name, value in tensors.items()})
        mine = {name: fused[name] for name in wanted if name in fused}
        wrong = sorted(n for n in wanted if n not in mine or mine[n].shape != wanted[n].shape)
        if wrong:
            name = wrong[0]
            shape_of = tuple(mine[name].shape) if name in mine else "absent"
            raise Damaged(
                f"{where}: the decoder's weights do not fit its config.json; first at {name} "
                f"(weights: {shape_of}, config: {tuple(wanted[name].shape)}). Is it a Whisper "
                "model, whole?"
            )
        decoder.load_state_dict(mine, assign=True)
        decoder.requires_grad_(False)
        return decoder


def _scores(q_BALW: torch.Tensor, k_BATW: torch.Tensor) -> torch.Tensor:
    width = q_BALW.shape[-1]
    return torch.matmul(q_BALW * width**-0.5, k_BATW.transpose(-1, -2))


def _fuse(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Join q, k and v of self-attention, and k and v of cross-attention. Keys have no bias."""
    fused = dict(tensors)
    for name in tensors:
        prefix, is_key, _ = name.partition(".k_proj.weight")
        parts = ("q", "k", "v") if prefix.endswith(".self_attn") else ("k", "v")
        weights = [f"{prefix}.{part}_proj.weight" for part in parts]
        biases = [f"{prefix}.{part}_proj.bias" for part in parts if part != "k"]
        if not is_key or not all(part in tensors for part in (*weights, *biases)):
            continue
        values = dict.fromkeys(biases, torch.Tensor()) | {n: fused.pop(n) for n in biases}
        zeros = torch.zeros(tensors[name].shape[0])
        fused[f"{prefix}.{''.join(parts)}_proj.weight"] = torch.cat([fused.pop(n) for n in weights])
        fused[f"{prefix}.{''.join(parts)}_proj.bias"] = torch.cat(
            [zeros if part == "k" else values[f"{prefix}.{part}_proj.bias"] for part in parts]
        )
    return fused
