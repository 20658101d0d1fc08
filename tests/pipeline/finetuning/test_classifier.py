from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.finetuning.classifier import Judge, loss_of, score
from pipeline.models.packing import pack
from tests.helpers import cells
from tests.helpers.cells import RECIPE, data_for

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return cells.encoder(tmp_path_factory.mktemp("encoder"))


def test_scores_do_not_depend_on_batch_mates(encoder):
    model, tokenizer = encoder
    judge = Judge(model, 2, RECIPE, torch.Generator().manual_seed(0))
    ids = data_for(tokenizer)["test"].ids
    together = score(judge, ids, CPU, RECIPE)
    for i in (0, 17, 63):
        np.testing.assert_allclose(
            score(judge, ids[i : i + 1], CPU, RECIPE)[0], together[i], atol=1e-5
        )


def test_pooling_equals_a_loop_over_sequences(encoder):
    model, tokenizer = encoder
    ids = data_for(tokenizer)["test"].ids[:5]
    packed = pack(torch.from_numpy(np.concatenate(ids)), torch.tensor([len(row) for row in ids]))
    for pooling in ("cls", "mean"):
        judge = Judge(
            model, 3, replace(RECIPE, pooling=pooling), torch.Generator().manual_seed(0)
        ).eval()
        with torch.no_grad():
            hidden = [
                model.eval()(
                    input_ids=torch.from_numpy(row).long()[None],
                    packed=pack(torch.from_numpy(row), torch.tensor([len(row)])),
                ).last_hidden_state[0]
                for row in ids
            ]
            pooled = [h[0] if pooling == "cls" else h.mean(0) for h in hidden]
            torch.testing.assert_close(
                judge(packed), judge.head(torch.stack(pooled)), atol=1e-5, rtol=1e-4
            )


def test_losses():
    scores, flags = torch.randn(4, 6), torch.randint(0, 2, (4, 6))
    classes = torch.tensor([0, 5, 2, 2])
    torch.testing.assert_close(
        loss_of("classes", "mse", scores, classes),
        -torch.log_softmax(scores, 1)[range(4), classes].mean(),
    )
    p = torch.sigmoid(scores)
    torch.testing.assert_close(
        loss_of("flags", "mse", scores, flags),
        -(flags * p.log() + (1 - flags) * (1 - p).log()).mean(),
    )
    values = torch.randn(4)
    torch.testing.assert_close(
        loss_of("value", "mse", scores[:, :1], values), (scores[:, 0] - values).square().mean()
    )
    torch.testing.assert_close(
        loss_of("value", "l1", scores[:, :1], values), functional.l1_loss(scores[:, 0], values)
    )
