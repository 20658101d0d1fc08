"""Vectors of examples and their plane, against a loop and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pipeline.finetuning.projection import plane, vectors
from pipeline.models.packing import encode_packed, pack
from tests.helpers import cells


def test_vectors_are_means_of_hidden_states(tmp_path):
    model, tokenizer = cells.encoder(tmp_path)
    inputs, _ = cells.data_for(tokenizer)
    places = [9, 4, 200, 1, 2, 30]
    rows = [inputs.ids[i] for i in places]
    for row, vector in zip(rows, vectors(model, inputs, places), strict=True):
        packed = pack(torch.from_numpy(row), torch.tensor([len(row)]))
        with torch.no_grad():
            np.testing.assert_allclose(
                vector, encode_packed(model.eval(), packed).mean(0), atol=1e-5
            )


def test_the_plane_is_scikit_learns_first_two_components():
    vectors_nD = np.random.default_rng(0).normal(size=(200, 7)) @ np.diag([5, 3, 2, 1, 1, 1, 1])
    points_n2, share = plane(vectors_nD)
    reference = PCA(2).fit(vectors_nD)
    np.testing.assert_allclose(np.abs(points_n2), np.abs(reference.transform(vectors_nD)))
    assert share == pytest.approx(reference.explained_variance_ratio_.sum())
    assert plane(np.ones((4, 3)))[1] == 0
