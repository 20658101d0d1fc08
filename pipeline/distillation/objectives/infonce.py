"""InfoNCE: the symmetric contrastive loss of WhisBERT, its audio side read from the cache."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.distillation.objectives.contract import KDBatch, Objective


class InfoNCE(Objective):
    """Pick one's own clip among the batch, from the text's side and from the audio's.

    `½ (CE(text → audio) + CE(audio → text))` of `cos/τ`, τ = 0.1 as in WhisBERT's code. Text to
    audio is averaged over tokens; audio to text compares with the clips' mean student vectors.
    Other clips of the same recording do not count as negatives. With one student vector per clip
    (`--kd-tokens cls` or `mean`) this is the loss of CLIP and of WhisBERT.
    """

    title = "symmetric contrastive loss"
    default_temperature = 0.1

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean of both directions."""
        clips = torch.arange(len(teacher_BE), device=teacher_BE.device)
        student_NE = functional.normalize(student_NE, dim=-1)
        teacher_BE = functional.normalize(teacher_BE, dim=-1)
        allowed_BB = batch.whole.rivals_BB() | torch.eye(
            len(clips), dtype=torch.bool, device=clips.device
        )
        text_NB = (student_NE @ teacher_BE.T / self.temperature).masked_fill(
            ~allowed_BB[batch.clip_N], -torch.inf
        )
        to_audio = batch.token_mean(
            functional.cross_entropy(text_NB, batch.clip_N, reduction="none")
        )
        mean_BE = functional.normalize(batch.clip_means(student_NE), dim=-1)
        audio_BB = (teacher_BE @ mean_BE.T / self.temperature).masked_fill(~allowed_BB, -torch.inf)
        return (to_audio + functional.cross_entropy(audio_BB, clips)) / 2
