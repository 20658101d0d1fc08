"""InfoNCE against the contrastive loss of Hugging Face's CLIP, and against plain sums."""

import math

import pytest
import torch
from torch.nn import functional
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from tests.helpers.kd_batches import changed, make_batch, make_objective


def test_one_vector_a_clip_is_clips_loss():
    batch = make_batch(lengths=(1, 1, 1, 1, 1))
    text_BE = functional.normalize(batch.states_ND, dim=-1)
    audio_BE = functional.normalize(batch.whole.teacher_BE, dim=-1)
    wanted = image_text_contrastive_loss(text_BE @ audio_BE.T / 0.1)
    torch.testing.assert_close(make_objective("infonce")(batch), wanted)


def test_tokens_pick_and_are_picked_by_their_mean():
    batch = make_batch()
    batch = changed(batch, recording_B=torch.tensor([1, 1, 2, 3, 4]))

    def cosine(x, y):
        return float(functional.cosine_similarity(x, y, dim=0))

    def allowed(b):
        return [c for c in range(5) if c == b or not {b, c} <= {0, 1}]

    def pick(vector, others, b):
        scores = {c: math.exp(cosine(vector, others[c]) / 0.2) for c in allowed(b)}
        return -math.log(scores[b] / sum(scores.values()))

    to_audio = [
        pick(state, batch.whole.teacher_BE, int(b))
        for state, b in zip(batch.states_ND, batch.clip_N, strict=True)
    ]
    unit_ND = functional.normalize(batch.states_ND, dim=-1)
    means = [unit_ND[batch.clip_N == b].mean(0) for b in range(5)]
    to_text = [pick(vector, means, b) for b, vector in enumerate(batch.whole.teacher_BE)]
    wanted = (sum(to_audio) / len(to_audio) + sum(to_text) / 5) / 2
    assert float(make_objective("infonce", temperature=0.2)(batch)) == pytest.approx(wanted)
