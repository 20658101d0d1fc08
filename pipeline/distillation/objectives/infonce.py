"""InfoNCE: the symmetric contrastive loss of WhisBERT, its audio side read from the cache."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.distillation.objectives.contract import KDBatch, Objective
from pipeline.distillation.objectives.narrow import narrow, only


class InfoNCE(Objective):
    """Pick one's own clip among the batch, from the text's side and from the audio's.

    `½ (CE(text → audio) + CE(audio → text))` of `cos/τ`, τ = 0.1 as in WhisBERT's code. Text to
    audio is averaged over tokens; audio to text compares with the clips' mean student vectors.
    Other clips of the same recording do not count as negatives. With one student vector per clip
    (`--kd-tokens cls` or `mean`) this is the loss of CLIP and of WhisBERT.

    At the level of words each word has one vector, so both directions pick from the same products,
    and those are made once; of a student much narrower than its teacher in its own width.
    """

    title = "symmetric contrastive loss"
    default_temperature = 0.1

    def forward(self, batch: KDBatch) -> Tensor:
        """The loss of a batch; words of a narrow student meet the teacher's in its own width."""
        few = narrow(self.projection, batch.states_ND) if self.level == "word" else None
        if few is None:
            return super().forward(batch)
        with torch.autocast(few.unit_NR.device.type, enabled=False):
            teacher_BE = functional.normalize(self.teacher(batch.whole.teacher_BE), dim=-1)
            return self._of_words(few.unit_NR, few.meet(teacher_BE), batch)

    def loss(self, student_NE: Tensor, teacher_BE: Tensor, batch: KDBatch) -> Tensor:
        """The mean of both directions."""
        clips = torch.arange(len(teacher_BE), device=teacher_BE.device)
        student_NE = functional.normalize(student_NE, dim=-1)
        teacher_BE = functional.normalize(teacher_BE, dim=-1)
        if self.level == "word":
            return self._of_words(student_NE, teacher_BE, batch)
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

    def _of_words(self, student_NR: Tensor, teacher_BR: Tensor, batch: KDBatch) -> Tensor:
        """The mean of both directions, from unit vectors or what stands for them."""
        mean_BR = batch.clip_means(student_NR) / self.temperature  # of one vector: the vector
        rival_BB = batch.whole.rivals_BB()
        rival_BB.fill_diagonal_(True)  # and one's own, from here on
        logit_BB = torch.addmm(only(rival_BB, mean_BR.new_zeros(1)), teacher_BR, mean_BR.T)
        own_B = logit_BB.diagonal()
        to_audio_N = (logit_BB.logsumexp(0) - own_B).index_select(0, batch.clip_N)
        to_text_B = logit_BB.logsumexp(1) - own_B
        return (batch.token_mean(to_audio_N) + to_text_B.mean()) / 2
