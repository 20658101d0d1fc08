"""Whisper's audio encoder for inference only: no dropout, no gradients, nothing else unneeded.

Shapes: B clips, M mel channels, F mel frames, T encoder positions (20 ms each), E width,
H heads, W width of a head.

Arithmetic and parameter names are those of `transformers.models.whisper.WhisperEncoder`, except
that q, k and v are one matrix. Two differences save work: it takes any number of positions up to
the table's, and its last layer computes only the positions that will be read. Every position still
attends to all others.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pipeline.foundation.errors import Damaged


@dataclass(frozen=True)
class EncoderShape:
    """What decides the size of an encoder, under the names of Hugging Face's `config.json`."""

    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    num_mel_bins: int
    max_source_positions: int

    def flops(self, positions: int) -> int:
        """Floating-point operations per clip of `positions` positions, if all are returned."""
        d, ffn = self.d_model, self.encoder_ffn_dim
        convolutions = 2 * positions * 3 * d * (2 * self.num_mel_bins + d)
        linear = self.encoder_layers * positions * (8 * d * d + 4 * d * ffn)
        attention = self.encoder_layers * 4 * positions * positions * d
        return convolutions + linear + attention


class Attention(nn.Module):
    """Self-attention without a mask. Queries may be fewer than keys."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x_BTE: torch.Tensor, keep: int) -> torch.Tensor:
        """Attend from the first `keep` positions of `[B, T, E]` to all; `[B, keep, E]`."""
        batch, positions, d_model = x_BTE.shape
        if keep == positions:
            q_BTE, kv_BTE = self.qkv_proj(x_BTE).split([d_model, 2 * d_model], dim=-1)
        else:
            weight, bias = self.qkv_proj.weight, self.qkv_proj.bias
            q_BTE = nn.functional.linear(x_BTE[:, :keep], weight[:d_model], bias[:d_model])
            kv_BTE = nn.functional.linear(x_BTE, weight[d_model:], bias[d_model:])
        q_BHTW = q_BTE.view(batch, keep, self.heads, -1).transpose(1, 2)
        k_BHTW, v_BHTW = kv_BTE.view(batch, positions, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed_BHTW = nn.functional.scaled_dot_product_attention(q_BHTW, k_BHTW, v_BHTW)
        mixed: torch.Tensor = self.out_proj(mixed_BHTW.transpose(1, 2).reshape(batch, keep, -1))
        return mixed


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape.d_model, shape.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.d_model)
        self.fc1 = nn.Linear(shape.d_model, shape.encoder_ffn_dim)
        self.fc2 = nn.Linear(shape.encoder_ffn_dim, shape.d_model)
        self.final_layer_norm = nn.LayerNorm(shape.d_model)

    def forward(self, x_BTE: torch.Tensor, keep: int) -> torch.Tensor:
        """Hidden states `[B, T, E]` → those of the next layer at the first `keep` positions."""
        x_BTE = x_BTE[:, :keep] + self.self_attn(self.self_attn_layer_norm(x_BTE), keep)
        x_BTE = x_BTE + self.fc2(nn.functional.gelu(self.fc1(self.final_layer_norm(x_BTE))))
        if x_BTE.dtype == torch.float16:
            limit = torch.finfo(torch.float16).max - 1000  # as Hugging Face: no infinities
            x_BTE = x_BTE.clamp(-limit, limit)
        return x_BTE


class WhisperEncoder(nn.Module):
    """Log-mel → last hidden states. It is built frozen and stays so."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.layer = shape.encoder_layers
        self.conv1 = nn.Conv1d(shape.num_mel_bins, shape.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(shape.d_model, shape.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(shape.max_source_positions, shape.d_model)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.encoder_layers))
        self.later = nn.ModuleList()
        self.layer_norm = nn.LayerNorm(shape.d_model)
        self.requires_grad_(False)
        self.eval()

    def cut(self, layer: int, *, keep_later: bool = False) -> None:
        """Give the states of an earlier layer from now on, and compute no later one.

        Args:
            layer: number of the layer; 0 gives what the first layer reads. The states of the last
                one alone pass the final layer norm, as in the library's `hidden_states`.
            keep_later: keep the later layers, for `finish` alone.

        Raises:
            ValueError: there is no such layer.
        """
        if not 0 <= layer <= self.layer:
            raise ValueError(f"layer {layer} of {self.layer}")
        if keep_later:
            self.later = self.layers[layer:]
        self.layers, self.layer = self.layers[:layer], layer

    def train(self, mode: bool = True) -> "WhisperEncoder":  # noqa: ARG002
        """Stay in evaluation mode whatever `mode` says, because a teacher does not learn."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, mel_BMF: torch.Tensor, keep: int | None = None) -> torch.Tensor:
        """Hidden states of the first `keep` positions: the last ones, unless `cut` said others.

        Args:
            mel_BMF: log-mel `[B, M, F]`, F even and at most twice the positions of the table.
            keep: positions to return, at most F / 2; None for all.

        Returns:
            float32 `[B, keep, E]`; the last states are normalised by the final layer norm in
            float32.
        """
        weight = self.conv1.weight
        x_BET = nn.functional.gelu(
            self.conv2(nn.functional.gelu(self.conv1(mel_BMF.to(weight.dtype))))
        )
        positions = x_BET.shape[-1]
        x_BTE = x_BET.transpose(1, 2) + self.embed_positions.weight[:positions]
        for layer in self.layers[:-1]:
            x_BTE = layer(x_BTE, positions)
        wanted = positions if keep is None else keep
        x_BTE = self.layers[-1](x_BTE, wanted) if len(self.layers) else x_BTE[:, :wanted]
        if self.layer < self.shape.encoder_layers:
            return x_BTE.float()
        return self._normalised(x_BTE)

    @torch.inference_mode()
    def finish(self, x_BTE: torch.Tensor) -> torch.Tensor:
        """The last hidden states, from those that `cut` gives at all positions; both float32.

        Args:
            x_BTE: what `forward` gave.

        Raises:
            ValueError: later layers were not kept.
        """
        if self.layer + len(self.later) < self.shape.encoder_layers:
            raise ValueError(f"layers behind {self.layer} were not kept")
        if self.layer == self.shape.encoder_layers:
            return x_BTE
        x_BTE = x_BTE.to(self.conv1.weight.dtype)
        for layer in self.later:
            x_BTE = layer(x_BTE, x_BTE.shape[1])
        return self._normalised(x_BTE)

    def _normalised(self, x_BTE: torch.Tensor) -> torch.Tensor:
        norm = self.layer_norm
        return nn.functional.layer_norm(
            x_BTE.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps
        )

    @classmethod
    def from_tensors(
        cls, shape: EncoderShape, tensors: dict[str, torch.Tensor], where: str
    ) -> "WhisperEncoder":
        """Build an encoder from Hugging Face's tensors (names without `model.encoder.`).

        Raises:
            SpeechkdError: a tensor is missing, there is one too many, or one has another shape
                than the configuration says.
        """
        tensors = _fuse({name: value.float() for name, value in tensors.items()})
        with torch.device("meta"):
            encoder = cls(shape)
        wanted = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        if wanted != shapes:
            wrong = sorted(n for n in wanted.keys() | shapes if wanted.get(n) != shapes.get(n))
            raise Damaged(
                f"{where}: the weights do not fit its config.json; first at {wrong[0]} "
                f"(weights: {shapes.get(wrong[0], 'absent')}, config: "
                f"{wanted.get(wrong[0], 'absent')}). Is it a Whisper model, whole?"
            )
        encoder.load_state_dict(tensors, assign=True)
        return encoder.requires_grad_(False)


def _fuse(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Join each layer's q, k and v matrices into one. The key has no bias, so it gets zeros."""
    fused = dict(tensors)
    for name in tensors:
        prefix, is_query, _ = name.partition(".q_proj.weight")
        parts = [
            f"{prefix}.{part}"
            for part in (
                "q_proj.weight",
                "k_proj.weight",
                "v_proj.weight",
                "q_proj.bias",
                "v_proj.bias",
            )
        ]
        if is_query and all(part in tensors for part in parts):
            q, k, v, q_bias, v_bias = (fused.pop(part) for part in parts)
            fused[f"{prefix}.qkv_proj.weight"] = torch.cat([q, k, v])
            fused[f"{prefix}.qkv_proj.bias"] = torch.cat([q_bias, torch.zeros_like(v_bias), v_bias])
    return fused
