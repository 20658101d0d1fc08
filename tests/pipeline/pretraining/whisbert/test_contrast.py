"""Both contrastive losses, against wav2vec2's and FLAVA's own code and brute force.

Shapes: B clips, P patches, K predicted patches, J negatives, D width.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import FlavaConfig, Wav2Vec2ForPreTraining
from transformers.models.flava.modeling_flava import FlavaGlobalContrastiveHead

from pipeline.models.lengths import Lengths
from pipeline.pretraining.whisbert.contrast import between_clips, fingerprints, within_clip
from pipeline.pretraining.whisbert.hiding import hide
from tests.helpers.whisbert import contrast_by_hand

D = 8


def hidden_of(counts, among="masked", negatives=20, span=3):
    patches = Lengths.of(torch.tensor(counts))
    return hide(
        patches,
        torch.arange(len(counts)),
        (0, "train", 0, 0),
        share=0.4,
        span=span,
        negatives=negatives,
        among=among,
    )


def made(counts, seed=0, **changes):
    hidden = hidden_of(counts, **changes)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(sum(counts), D, generator=generator)
    predicted = torch.randn(len(hidden.place_K), D, generator=generator)
    return hidden, predicted, targets


def places_of_negatives(hidden):
    """Where each negative stands among all patches `[K, J]`."""
    first = hidden.candidates.starts_B[hidden.rows.sequence_N]
    return hidden.candidate_C[first[:, None] + hidden.other_KJ]


@pytest.mark.parametrize("among", ["masked", "all"])
def test_the_contrast_of_patches_is_wav2vec2s(among):
    hidden, predicted, targets = made([41, 9, 3, 60], among=among)
    terms = within_clip(predicted, targets, hidden, 0.1)
    negatives = targets[places_of_negatives(hidden)].transpose(0, 1)
    logits = Wav2Vec2ForPreTraining.compute_contrastive_logits(
        targets[hidden.place_K][None], negatives, predicted, 0.1
    )
    wanted = functional.cross_entropy(
        logits.T, torch.zeros(len(predicted), dtype=torch.long), reduction="none"
    )
    assert torch.allclose(terms.loss_K, wanted, atol=1e-5)
    assert terms.counts_K.all()
    assert terms.mean() == pytest.approx(float(wanted.mean()), abs=1e-5)


def test_targets_that_equal_the_own_one_do_not_count():
    """wav2vec2's rule, by brute force over targets of which many are alike."""
    hidden, predicted, targets = made([50, 20])
    targets[::2] = targets[0]
    targets[21:40] = targets[21]
    terms = within_clip(predicted, targets, hidden, 0.1)
    negatives = places_of_negatives(hidden)
    for k, place in enumerate(hidden.place_K.tolist()):
        wanted = contrast_by_hand(predicted[k], targets[place], targets[negatives[k]], 0.1)
        assert bool(terms.counts_K[k]) == (wanted is not None)
        if wanted is not None:
            assert terms.loss_K[k] == pytest.approx(float(wanted), abs=1e-5)


def test_digital_silence_gives_no_term_and_a_gradient_of_zero():
    hidden, predicted, targets = made([50, 20])
    targets[:] = targets[0]
    predicted.requires_grad_()
    terms = within_clip(predicted, targets, hidden, 0.1)
    assert not terms.counts_K.any()
    assert float(terms.mean()) == 0
    terms.mean().backward()
    assert (predicted.grad == 0).all()


def test_an_uninformed_model_has_the_chance_value():
    """ln 21 where all are as near: the prediction stands upright on every target."""
    hidden, predicted, targets = made([60])
    predicted = torch.zeros_like(predicted)
    predicted[:, 0] = 1
    targets[:, 0] = 0
    terms = within_clip(predicted, targets, hidden, 0.1)
    assert torch.allclose(terms.loss_K, torch.full_like(terms.loss_K, math.log(21)), atol=1e-6)


def test_no_hidden_patch_gives_zero_and_a_graph():
    hidden, predicted, targets = made([2, 3])
    predicted.requires_grad_()
    mean = within_clip(predicted, targets, hidden, 0.1).mean()
    assert float(mean) == 0
    mean.backward()
    assert predicted.grad.shape == (0, D)


@pytest.mark.parametrize("kappa", [1e-3, 100.0])
def test_extreme_temperatures_are_finite_under_autocast(kappa):
    hidden, predicted, targets = made([60, 40])
    predicted.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = within_clip(predicted.bfloat16(), targets, hidden, kappa)
    assert terms.loss_K.dtype == torch.float32
    terms.mean().backward()
    assert terms.loss_K.isfinite().all()
    assert predicted.grad.isfinite().all()


def test_other_clips_change_no_term():
    hidden, predicted, targets = made([41, 60])
    first = hidden.rows.sequence_N == 0
    before = within_clip(predicted, targets, hidden, 0.1).loss_K[first]
    targets[41:] += 1
    assert torch.equal(within_clip(predicted, targets, hidden, 0.1).loss_K[first], before)


def test_gradients_reach_targets_and_predictions_like_those_of_brute_force():
    hidden, predicted, targets = made([30, 25], negatives=7)
    sides = [x.double().requires_grad_() for x in (predicted, targets)]
    # the loss computes in float32: so does the reference
    within_clip(*sides, hidden, 0.1).mean().backward()
    mine = [x.grad.clone() for x in sides]
    other = [x.detach().clone().requires_grad_() for x in sides]
    negatives = places_of_negatives(hidden)
    losses = [
        contrast_by_hand(other[0][k], other[1][place], other[1][negatives[k]], 0.1)
        for k, place in enumerate(hidden.place_K.tolist())
    ]
    torch.stack(losses).mean().backward()
    for got, wanted in zip(mine, [x.grad for x in other], strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


def test_fingerprints_are_equal_where_rows_are():
    rows = torch.tensor([[0.0, 1], [-0.0, 1], [1, 0], [0, 1 + 1e-7], [1, 0]])
    marks = fingerprints(rows)
    assert marks[0] == marks[1]
    assert marks[2] == marks[4]
    assert len(set(marks.tolist())) == 3
    assert len(set(fingerprints(torch.randn(5000, 3)).tolist())) == 5000


def sides(clips=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, D, generator=generator), torch.randn(clips, D, generator=generator)


def everyone(clips=6):
    return ~torch.eye(clips, dtype=torch.bool)


def test_the_contrast_of_clips_is_flavas():
    audio, text = sides()
    scale = torch.tensor(1 / 0.07)
    head = FlavaGlobalContrastiveHead(FlavaConfig())
    units = [functional.normalize(x, dim=1) for x in (audio, text)]
    one, other, labels = head(*units, scale.log())
    wanted = (functional.cross_entropy(one, labels) + functional.cross_entropy(other, labels)) / 2
    got = between_clips(audio, text, scale, everyone(), 0)
    assert got.loss == pytest.approx(float(wanted), abs=1e-5)
    right = ((one.argmax(1) == labels).sum() + (other.argmax(1) == labels).sum()) / 12
    assert float(got.top1) == pytest.approx(float(right))
    assert float(got.chance) == pytest.approx(math.log(6))


def test_the_contrast_of_clips_and_its_gradients_are_the_symmetric_ranking_loss():
    """That of sentence-transformers, with one softmax per direction."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    both = [x.double().requires_grad_() for x in sides()]
    reference = losses.MultipleNegativesRankingLoss(
        nn.Identity(),
        scale=1 / 0.07,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    wanted = reference.compute_loss_from_embeddings(both, torch.empty(0))
    ours = [x.detach().float().requires_grad_() for x in both]
    got = between_clips(*ours, torch.tensor(1 / 0.07), everyone(), 0).loss
    assert float(got) == pytest.approx(float(wanted), abs=1e-5)
    for one, other in zip(
        torch.autograd.grad(got, ours), torch.autograd.grad(wanted, both), strict=True
    ):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-4)


def test_clips_that_are_no_rivals_do_not_count():
    """Against brute force: a clip's rivals are those of other recordings and texts."""
    audio, text = sides()
    rivals = everyone()
    for a, b in ((0, 1), (2, 3), (3, 4)):
        rivals[a, b] = rivals[b, a] = False
    got = between_clips(audio, text, torch.tensor(5.0), rivals, 0)
    units = [functional.normalize(x, dim=1) for x in (audio, text)]
    losses, chances = [], []
    for one, other in (units, units[::-1]):
        for b in range(6):
            shown = [b, *rivals[b].nonzero()[:, 0].tolist()]
            logits = 5 * one[b] @ other[shown].T
            losses.append(-logits.log_softmax(0)[0])
            chances.append(math.log(len(shown)))
    assert float(got.loss) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-6)
    assert float(got.chance) == pytest.approx(sum(chances) / 12, abs=1e-6)


def test_clips_of_one_recording_have_no_loss_and_a_gradient_of_zero():
    audio, text = (x.requires_grad_() for x in sides())
    got = between_clips(audio, text, torch.tensor(5.0), torch.zeros(6, 6).bool(), 0)
    assert (float(got.loss), float(got.top1), float(got.chance)) == (0, 0, 0)
    got.loss.backward()
    assert (audio.grad == 0).all()
    assert (text.grad == 0).all()


def test_a_clip_without_rivals_is_left_out_of_the_mean():
    audio, text = sides()
    rivals = everyone()
    rivals[5] = rivals[:, 5] = False
    alone = between_clips(audio[:5], text[:5], torch.tensor(5.0), everyone(5), 0)
    got = between_clips(audio, text, torch.tensor(5.0), rivals, 0)
    assert float(got.loss) == pytest.approx(float(alone.loss), abs=1e-6)


def test_equal_vectors_have_the_chance_value():
    same = torch.ones(6, D)
    got = between_clips(same, same, torch.tensor(14.0), everyone(), 0)
    assert float(got.loss) == pytest.approx(math.log(6), abs=1e-6)
