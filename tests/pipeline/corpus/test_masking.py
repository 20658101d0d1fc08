"""Masks are BERT's, and at least one token per batch is predicted."""

import pytest
import torch
from scipy.stats import hypergeom

from pipeline.corpus.masking import Masking, most_chosen
from tests.helpers.caches import make_cache, samples_of, wordpiece


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("masking") / "cache", [360])


@pytest.fixture(scope="module")
def tokenizer(cache):
    return wordpiece(cache)


def test_masks_are_berts(cache, tokenizer):
    """15 % of ordinary tokens exactly; of these 80 % masked, 10 % replaced, 10 % left."""
    masking = Masking.of(tokenizer, 0.15)
    texts = [tokenizer(text)["input_ids"] for text in samples_of(cache).texts]
    ids_N = torch.tensor([i for ids in texts for i in ids]).repeat(20)
    chosen_K, masked_N = masking.choose(ids_N, torch.arange(len(ids_N)), 0, "test")
    special_N = torch.isin(ids_N, torch.tensor(tokenizer.all_special_ids))
    assert len(chosen_K) == round(0.15 * int((~special_N).sum()))
    assert len(chosen_K.unique()) == len(chosen_K)
    assert not special_N[chosen_K].any()
    untouched_N = torch.ones_like(special_N)
    untouched_N[chosen_K] = False
    assert masked_N[untouched_N].equal(ids_N[untouched_N])
    masked_K, true_K = masked_N[chosen_K], ids_N[chosen_K]
    masked = (masked_K == tokenizer.mask_token_id).float().mean()
    kept = (masked_K == true_K).float().mean()
    spread = 3 * (0.25 / len(chosen_K)) ** 0.5
    assert abs(masked - 0.8 - 0.1 / len(tokenizer)) < spread
    assert abs(kept - 0.1 - 0.1 / len(tokenizer)) < spread


def test_at_least_one_token_is_predicted(tokenizer):
    masking = Masking.of(tokenizer, 0.01)
    for ids, places in (([2, 9, 10, 3], (1, 2)), ([2, 3], (0, 1))):
        chosen_K, _ = masking.choose(torch.tensor(ids), torch.arange(len(ids)), 0, "test")
        assert len(chosen_K) == 1
        assert chosen_K[0] in places, "a special token only where there is no other"


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 200])
@pytest.mark.parametrize("share", [0.01, 0.15, 0.9])
def test_a_whole_batch_has_no_more_chosen_than_is_said(tokens, share):
    masking = Masking(share, 0, torch.tensor([True, False]))
    chosen_K, _ = masking.choose(torch.ones(tokens, dtype=torch.long), torch.arange(tokens), 0)
    assert len(chosen_K) <= most_chosen(share, tokens) <= len(chosen_K) + 1


@pytest.mark.parametrize("share", [0.01, 0.15, 0.9])
@pytest.mark.parametrize("processes", [2, 3, 64])
@pytest.mark.parametrize("tokens", [1, 5, 40, 640, 20_000])
def test_a_share_of_a_batch_has_more_chosen_than_is_said_once_in_a_billion(
    share, processes, tokens
):
    """What falls to a share is hypergeometric; scipy has its quantiles."""
    whole = tokens * processes
    chosen = max(1, round(share * whole))
    exact = hypergeom(whole, chosen, tokens).isf(1e-9)
    said = most_chosen(share, tokens, processes)
    assert exact <= said <= tokens
    assert said <= 2 * exact + 10  # and is of some use
