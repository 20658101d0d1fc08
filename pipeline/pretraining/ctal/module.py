"""What is trained: a text encoder and a text-referred audio stack, by masked tokens and frames.

Source: Li et al. 2021, "CTAL", section 3.2 (masked language modelling, masked cross-modal acoustic
modelling). The gradient of the second runs through cross-attention into the text encoder.

Shapes: N tokens, P positions of audio, J chosen positions, S frames of a position, C columns of a
position, M mel channels, T = N, D width of the audio stack, K width of the text encoder.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.student import Student
from pipeline.models.text_referred import AudioStack
from pipeline.pretraining.ctal.batches import LINES, CtalBatch


class FrameHead(nn.Module):
    """States of positions → log-mels and deltas of their frames; thrown away after training.

    Args:
        audio: the stack whose states it reads.
        target_columns: values that it gives.
    """

    def __init__(self, audio: AudioStack, target_columns: int) -> None:
        super().__init__()
        config = audio.config
        self.dense = nn.Linear(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.output = nn.Linear(config.width, target_columns)
        for linear in (self.dense, self.output):
            nn.init.normal_(linear.weight, std=config.spread)
            nn.init.zeros_(linear.bias)

    def forward(self, states_JD: Tensor) -> Tensor:
        """Predicted values `[J, target_columns]`."""
        predicted_JC: Tensor = self.output(self.LayerNorm(functional.gelu(self.dense(states_JD))))
        return predicted_JC


class CtalPretraining(nn.Module):
    """`L = w_MLM · L_MLM + w_MCAM · L_MCAM`.

    Args:
        text: the text encoder with its masked-LM head.
        audio: the audio stack.
        target_columns: values of a position that are predicted.
        mlm_weight: of masked tokens; at 0 the masked-LM head is not trained.
        mcam_weight: of masked frames; at 0 the audio stack is not trained.
    """

    def __init__(
        self,
        text: Student,
        audio: AudioStack,
        target_columns: int,
        *,
        mlm_weight: float = 1.0,
        mcam_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.text, self.audio = text, audio
        self.head = FrameHead(audio, target_columns)
        self.mlm_weight, self.mcam_weight = mlm_weight, mcam_weight
        if not mcam_weight:  # processes wait for every gradient that is asked for
            self.audio.requires_grad_(False)
            self.head.requires_grad_(False)
        if not mlm_weight:
            of_encoder = {id(p) for p in text.encoder.parameters()}
            for parameter in text.model.parameters():
                parameter.requires_grad_(id(parameter) in of_encoder)

    def forward(self, batch: CtalBatch, *, measure: bool = False) -> dict[str, Tensor]:
        """Losses of a batch by name.

        `loss`; `loss/mlm`, mean cross-entropy of the chosen tokens in nats; `loss/mcam`, mean
        absolute error of the chosen frames' normalised log-mels and deltas, and of it
        `loss/mcam_mel`, `loss/mcam_delta`, and `loss/mcam_middle` on frames at least 8 from a
        visible one. With `measure` also what needs no model: `line/…` and `line/…_middle`; in
        training the norms of both gradients at the text's states; else `loss/mcam_other_text`,
        where each clip looks at another one's text.
        """
        text = batch.packed
        self.text.draws.begin(batch.token_number_N, batch.dropout_key)
        self.audio.draws.begin(batch.position_number_P, batch.dropout_key + 1)
        text_NK = self.text(text.with_ids(batch.masked_N))
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.mlm_weight)):
            mlm = self.text.masked_lm_loss(text_NK, text.ids_N, batch.chosen_K)
            mlm = mlm * (batch.processes / batch.chosen_total)
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.mcam_weight)):
            audio_PD = self.audio(batch.read_PC, batch.audio, text_NK, text)
            losses = self._frames(audio_PD, batch)
        mcam = losses["loss/mcam"]
        loss = self.mlm_weight * mlm + self.mcam_weight * mcam
        losses = {"loss": loss, "loss/mlm": mlm, **losses}
        if not measure:
            return losses
        losses |= self._lines(batch)
        if torch.is_grad_enabled():
            return losses | self._norms(mlm, mcam, text_NK)
        if self.audio.config.cross and batch.clips >= 2 * batch.processes:
            clips = len(batch.audio.lengths_B)
            partner_B = torch.arange(clips, device=text_NK.device).roll(1)
            other_PD = self.audio(batch.read_PC, batch.audio, text_NK, text, partner_B)
            losses["loss/mcam_other_text"] = self._frames(other_PD, batch)["loss/mcam"]
        return losses

    def _frames(self, audio_PD: Tensor, batch: CtalBatch) -> dict[str, Tensor]:
        predicted_JC = self.head(audio_PD.index_select(0, batch.chosen_J)).float()
        predicted_JSM = predicted_JC.view(batch.target_JSM.shape)
        apart_JSM = (predicted_JSM - batch.target_JSM).abs()
        mel_JS, delta_JS = (half.sum(-1) * batch.real_JS for half in apart_JSM.chunk(2, dim=-1))
        channels = batch.target_JSM.shape[-1] // 2
        per_frame = batch.processes / max(1, batch.frames_total)
        mel, delta = (half_JS.sum() * per_frame / channels for half_JS in (mel_JS, delta_JS))
        losses = {
            "loss/mcam": (mel + delta) / 2,
            "loss/mcam_mel": mel.detach(),
            "loss/mcam_delta": delta.detach(),
        }
        if batch.middle_total:
            middle = ((mel_JS + delta_JS).detach() * batch.middle_JS).sum()
            per_middle = batch.processes / (2 * channels * batch.middle_total)
            losses["loss/mcam_middle"] = middle * per_middle
        return losses

    @staticmethod
    def _lines(batch: CtalBatch) -> dict[str, Tensor]:
        names = [f"line/{name}" for name in LINES]
        if batch.middle_total:
            names += [f"{name}_middle" for name in names]
        return dict(zip(names, batch.lines[: len(names)].unbind(), strict=True))

    def _norms(self, mlm: Tensor, mcam: Tensor, text_NK: Tensor) -> dict[str, Tensor]:
        """Norms of the gradients of both losses at the text's final states."""
        norms = {}
        with torch.autocast(text_NK.device.type, enabled=False):  # as training's own backward pass
            for name, loss in (("mlm", mlm), ("mcam", mcam)):
                if loss.requires_grad:
                    (gradient,) = torch.autograd.grad(
                        loss, text_NK, retain_graph=True, allow_unused=True
                    )
                    if gradient is not None:
                        norms[f"gradient/{name}"] = gradient.float().norm().detach()
        return norms
