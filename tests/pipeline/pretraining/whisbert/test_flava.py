"""The fusion encoder and its losses against a whole `FlavaForPreTraining` with the same weights.

FLAVA's multimodal encoder is the form that WhisBERT's follows. It has neither positions nor a
vector per side, so these are taken away here; all else must be the same.

Shapes: B pairs, P patches, L tokens, D width, V vocabulary.
"""

import pytest
import torch
from transformers import FlavaConfig, FlavaForPreTraining

from pipeline.models.lengths import Lengths
from pipeline.models.whisbert import fusion as fusion_module
from pipeline.models.whisbert.fusion import Fused, Fusion, Pairing
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.pretraining.whisbert.measures import Seen
from pipeline.pretraining.whisbert.module import JointTextHead, MatchHead, WhisBERT

B, P, L, D, V = 5, 4, 6, 16, 40
MATCHED = torch.tensor([1, 0, 1, 1, 0])
IGNORED = -100


@pytest.fixture(scope="module")
def flava():
    torch.manual_seed(0)
    sizes = {
        "hidden_size": D, "num_attention_heads": 2, "intermediate_size": 32,
        "num_hidden_layers": 2, "initializer_range": 0.3,
    }  # fmt: skip
    own = {**sizes, "layer_norm_eps": 1e-5}  # as Whisper's layers have it
    config = FlavaConfig(
        text_config={**sizes, "vocab_size": V},
        image_config={**own, "image_size": 8, "patch_size": 4, "vocab_size": 9},
        multimodal_config=own,
        hidden_size=D,
        projection_dim=D,
        init_codebook=False,
    )
    model = FlavaForPreTraining(config).eval()
    for layer in model.flava.multimodal_model.encoder.layer:
        # Whisper's keys have no bias; a softmax would not see it
        layer.attention.attention.key.bias.data.zero_()
    return model


@pytest.fixture(scope="module")
def told(flava):
    """What FLAVA says of a batch, and the states that its multimodal encoder was given."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, V, (B, L), generator=generator)
    masked, labels = ids.clone(), torch.full((B, L), IGNORED)
    for row, place in ((0, 1), (0, 4), (1, 2), (2, 5), (3, 3), (4, 1)):
        labels[row, place], masked[row, place] = ids[row, place], 3
    hidden = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    given = {}
    handles = [
        getattr(flava.flava, f"{side}_to_mm_projection").register_forward_pre_hook(
            lambda _, inputs, side=side: given.update({side: inputs[0]})
        )
        for side in ("image", "text")
    ]
    handles.append(
        flava.itm_head.register_forward_pre_hook(lambda _, x: given.update({"fused": x[0]}))
    )
    with torch.no_grad():
        out = flava(
            input_ids=ids,
            input_ids_masked=masked,
            pixel_values=torch.randn(B, 3, 8, 8, generator=generator),
            bool_masked_pos=hidden.bool(),
            mlm_labels=labels.clone(),
            mim_labels=torch.randint(9, (B, P), generator=generator),
            itm_labels=MATCHED,
            return_loss=True,
        )
    for handle in handles:
        handle.remove()
    return out, given, labels, hidden.bool()


@pytest.fixture
def fusion(flava, monkeypatch):
    """Ours with FLAVA's weights."""
    ours = Fusion(D, D, LayerSizes(layers=2, width=D, heads=2, feed_forward=32))
    theirs = flava.flava.multimodal_model
    monkeypatch.setattr(
        fusion_module, "positions", lambda of, width: torch.zeros(len(of.sequence_N), width)
    )
    ours.audio_D.data.zero_()
    ours.text_D.data.zero_()
    ours.cls_D.data.copy_(theirs.cls_token[0, 0])
    pairs = [
        (ours.from_audio, flava.flava.image_to_mm_projection),
        (ours.from_text, flava.flava.text_to_mm_projection),
        (ours.layers.norm, theirs.layernorm),
    ]
    for mine, other in zip(ours.layers.layers, theirs.encoder.layer, strict=True):
        attention = other.attention.attention
        mine.self_attn.k_proj.weight.data.copy_(attention.key.weight)
        pairs += [
            (mine.self_attn.q_proj, attention.query),
            (mine.self_attn.v_proj, attention.value),
            (mine.self_attn.out_proj, other.attention.output.dense),
            (mine.self_attn_layer_norm, other.layernorm_before),
            (mine.final_layer_norm, other.layernorm_after),
            (mine.fc1, other.intermediate.dense),
            (mine.fc2, other.output.dense),
        ]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
    return ours.eval()


def fused_of(fusion, given):
    audio, text = (Lengths.of(torch.full((B,), n)) for n in (1 + P, L))
    sides = [given[side].flatten(0, 1) for side in ("image", "text")]
    with torch.no_grad():
        return fusion(*fusion.project(*sides, audio, text), Pairing.of(audio, text))


def test_fused_states_are_flavas(fusion, told):
    _, given, *_ = told
    ours, theirs = fused_of(fusion, given), given["fused"]
    assert theirs.shape == (B, 2 + P + L, D)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours.cls_BD, theirs[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours.audio_AD.view(B, 1 + P, D), theirs[:, 1 : 2 + P], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(ours.text_ND.view(B, L, D), theirs[:, 2 + P :], rtol=1e-4, atol=1e-5)


def test_matching_and_both_sides_of_what_is_masked_are_flavas(flava, fusion, told):
    """Matching is of all pairs, masked tokens and patches of matched pairs only."""
    out, given, labels, hidden = told
    ours, matched = fused_of(fusion, given), MATCHED.bool()
    head = MatchHead(D)
    head[0].load_state_dict(flava.itm_head.pooler.dense.state_dict())
    head[2].load_state_dict(flava.itm_head.seq_relationship.state_dict())
    none, seen = torch.zeros(0, D), Seen(ours.text_ND)
    sides = [Fused(ours.cls_BD[rows], none, none) for rows in (matched, ~matched)]
    with torch.no_grad():
        WhisBERT._match(head, *sides, seen)
    assert float(seen.losses["atm"]) == pytest.approx(float(out.loss_info.itm), abs=1e-5)

    theirs = flava.mmm_text_head
    text_head = JointTextHead(D, D, V)
    text_head.dense.load_state_dict(theirs.transform.dense.state_dict())
    text_head.norm.load_state_dict(theirs.transform.LayerNorm.state_dict())
    text_head.bias_V.data.copy_(theirs.bias)
    chosen = (labels != IGNORED) & matched[:, None]
    with torch.no_grad():
        logits_KV = text_head(ours.text_ND[chosen.flatten()], theirs.decoder.weight)
        loss = torch.nn.functional.cross_entropy(logits_KV, labels[chosen])
        patches = ours.audio_AD.view(B, 1 + P, D)[:, 1:][hidden & matched[:, None]]
        image_logits = flava.mmm_image_head(patches)
    assert float(loss) == pytest.approx(float(out.loss_info.mmm_text), abs=1e-5)
    torch.testing.assert_close(image_logits, out.mmm_image_logits, rtol=1e-4, atol=1e-5)
