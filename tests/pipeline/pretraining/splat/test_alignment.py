"""Alignment: losses by hand, batch mates, shares of processes, pairs, controls, hedging."""

from dataclasses import replace

import pytest
import torch

from pipeline.corpus.draws import PLACES
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.lengths import Lengths
from pipeline.models.speech import SpeechInput, SpeechShape, build_speech
from pipeline.pretraining.splat.alignment import AlignBatch, Alignment, Tokens
from pipeline.pretraining.splat.reading import SpeechBatch
from pipeline.pretraining.splat.similarity import all_scores, own_scores

COUNTS, TOKENS, WIDTH, TEXT = [4, 1, 6, 3], [3, 4, 2, 5], 8, 5


def make(align="seq", text_width=TEXT, projection="auto", **changes):
    torch.manual_seed(0)
    speech = build_speech(
        SpeechShape(channels=3, most_rows=9, layers=1, width=WIDTH, heads=2, dropout=0.0)
    )
    return Alignment(
        speech, align, projection, text_width=text_width, median_E=torch.zeros(text_width),
        **changes,
    ).eval()  # fmt: skip


def batch_of(places=(0, 1, 2, 3), *, whole=None, cut=(), texts=(0, 1, 2, 3), processes=1, seed=0):
    """Clips by number; `whole` is the whole batch that they are this process's share of."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(sum(COUNTS), 3, generator=generator).split(COUNTS)
    states = torch.randn(sum(TOKENS), TEXT, generator=generator).split(TOKENS)
    weights = [torch.full((n,), 1 / n) for n in TOKENS]
    vectors = torch.randn(4, TEXT, generator=generator)
    every = list(places) if whole is None else list(whole)
    lengths = torch.tensor([COUNTS[p] for p in places])
    counts = [TOKENS[texts[p]] for p in every]
    tokens = Tokens(
        torch.cat([states[texts[p]] for p in every]),
        torch.cat([weights[texts[p]] for p in every]),
        torch.arange(len(every)).repeat_interleave(torch.tensor(counts)),
        counts,
    )
    number = torch.tensor([texts[p] for p in every])
    clips = SpeechInput.of(Lengths.of(lengths), torch.cat([frames[p] for p in places]), "cls")
    speech = SpeechBatch(
        clips, torch.tensor(places) * PLACES, torch.tensor(1), sum(COUNTS), len(every), processes,
        None,
    )  # fmt: skip
    return AlignBatch(
        speech=speech,
        vector_bE=vectors[[texts[p] for p in places]],
        tokens=tokens,
        own_b=[every.index(p) for p in places],
        same_bB=torch.tensor([texts[p] for p in places])[:, None] == number,
        counts_b=torch.tensor([p not in cut for p in places]),
        counted=sum(p not in cut for p in every),
        frames_b=lengths.tolist(),
    )


def test_seq_is_the_mean_absolute_difference_of_the_two_vectors():
    module, batch = make("seq"), batch_of()
    losses = module(batch)
    vector = module.head(module.speech(batch.speech.clips).vector_BD).double()
    wanted = (vector - batch.vector_bE.double()).abs().mean()
    assert float(losses["loss"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(losses["align/constant"]) == pytest.approx(float(batch.vector_bE.abs().mean()))
    assert losses["loss/align"].requires_grad is False


def test_seq_is_nothing_at_a_match():
    module, batch = make("seq"), batch_of()
    vector = module.head(module.speech(batch.speech.clips).vector_BD).detach()
    assert float(module(replace(batch, vector_bE=vector))["loss"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("align", ["tok", "tok-contrast"])
def test_scores_are_not_rounded_to_bfloat16_where_the_module_is(align):
    """The comparison of frames and tokens leaves autocast."""
    module, batch = make(align), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        frames = module.head(module.speech(batch.speech.clips).frames_ND)
        loss = float(module(batch)["loss"])
    assert frames.dtype == torch.bfloat16
    tokens = batch.tokens
    if align == "tok":
        scores = own_scores(frames, COUNTS, tokens.states_ME, TOKENS, tokens.weight_M)
        wanted = -float(scores.mean())
    else:
        scores = all_scores(
            frames, COUNTS, tokens.states_ME, tokens.text_M, len(TOKENS), tokens.weight_M
        )
        wanted = float(torch.nn.functional.cross_entropy(scores / 0.05, torch.arange(4)))
    assert loss == pytest.approx(wanted, abs=1e-5)


def test_its_gradient_at_the_vectors_is_a_sign():
    module, batch = make("seq", text_width=WIDTH), batch_of()
    batch = replace(batch, vector_bE=torch.randn(4, WIDTH))
    seen = {}

    def keep(_, __, output):
        output.retain_grad()
        seen["vector"] = output

    module.head.register_forward_hook(keep)
    module(batch)["loss"].backward()
    gradient = seen["vector"].grad
    assert gradient.abs().unique().tolist() == pytest.approx([1 / (4 * WIDTH)])


def test_tok_is_the_mean_of_the_clips_scores_without_the_learned_first_position():
    module, batch = make("tok"), batch_of()
    frames = module.head(module.speech(batch.speech.clips).frames_ND)
    score = own_scores(
        frames, COUNTS, batch.tokens.states_ME, TOKENS, batch.tokens.weight_M
    ).double()
    assert float(module(batch)["loss"]) == pytest.approx(-float(score.mean()), rel=1e-5)


@pytest.mark.parametrize("align", ["seq", "tok", "tok-contrast"])
def test_texts_of_other_clips_change_value_and_gradient(align):
    results = []
    for texts in ((0, 1, 2, 3), (1, 2, 3, 0)):
        module = make(align)
        loss = module(batch_of(texts=texts))["loss"]
        loss.backward()
        results.append((float(loss), module.speech.inputs.weight.grad.clone()))
    assert results[0][0] != results[1][0]
    assert not torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize("align", ["seq", "tok"])
def test_a_clip_s_loss_does_not_depend_on_its_mates(align):
    module = make(align)
    together = float(module(batch_of())["loss"])
    alone = [float(module(batch_of((p,)))["loss"]) for p in range(4)]
    assert together == pytest.approx(sum(alone) / 4, rel=1e-5)
    turned = float(module(batch_of((2, 0, 3, 1)))["loss"])
    assert turned == pytest.approx(together, rel=1e-5)


@pytest.mark.parametrize("align", ["seq", "tok", "tok-contrast"])
@pytest.mark.parametrize("processes", [2, 3])
def test_shares_average_to_the_whole(align, processes):
    whole = make(align)
    loss = whole(batch_of(cut=(1,) if align != "seq" else ()))["loss"]
    loss.backward()
    wanted = whole.speech.inputs.weight.grad
    losses, gradients = [], []
    for rank in range(processes):
        part = make(align)
        share = batch_of(
            tuple(range(4))[rank::processes], whole=(0, 1, 2, 3), processes=processes,
            cut=(1,) if align != "seq" else (),
        )  # fmt: skip
        if align == "seq":
            share = replace(share, tokens=None)
        own = part(share)["loss"]
        own.backward()
        losses.append(float(own))
        gradients.append(part.speech.inputs.weight.grad)
    assert sum(losses) / processes == pytest.approx(float(loss), rel=1e-5)
    torch.testing.assert_close(sum(gradients) / processes, wanted, atol=1e-6, rtol=1e-4)


def test_what_is_told_of_the_other_texts_of_a_batch_does_not_depend_on_shares():
    """Found with two processes: each took another text than one process did."""
    module = make("tok-contrast")
    whole = module(batch_of(), measure=True)
    shares = [
        module(batch_of(places, whole=(0, 1, 2, 3), processes=2), measure=True)
        for places in ((0, 2), (1, 3))
    ]
    for name in ("match/own", "match/other", "match/other_true"):
        mean = sum(float(share[name]) for share in shares) / 2
        assert mean == pytest.approx(float(whole[name]), rel=1e-5)


def test_a_cut_text_does_not_count_for_tokens():
    module = make("tok")
    left_out = float(module(batch_of(cut=(2,)))["loss"])
    others = [float(module(batch_of((p,)))["loss"]) for p in (0, 1, 3)]
    assert left_out == pytest.approx(sum(others) / 3, rel=1e-5)


@pytest.mark.parametrize("align", ["seq", "tok", "tok-contrast"])
def test_nothing_of_the_texts_is_trained_or_saved(align):
    module = make(align)
    names = {name.split(".")[0] for name, _ in module.named_parameters()}
    assert names == {"speech", "head"}
    assert {name.split(".")[0] for name in module.state_dict()} == names


def test_frames_that_hold_every_token_hedge_and_show():
    """A dictionary of all texts matches its own and any other text: other is above other_true."""
    module, batch = make("tok", text_width=TEXT), batch_of()
    everything = torch.cat([batch.tokens.states_ME] * 4)
    hedging = replace(batch, frames_b=[sum(TOKENS)] * 4)
    told = module._matches(everything, hedging, batch.tokens)
    assert float(told["match/own"]) == pytest.approx(1)
    assert float(told["match/other"]) == pytest.approx(1)
    assert float(told["match/other_true"]) < 0.99
    honest = replace(batch, frames_b=TOKENS)
    told = module._matches(batch.tokens.states_ME, honest, batch.tokens)
    assert float(told["match/other"]) == pytest.approx(float(told["match/other_true"]))


def test_widths_that_differ_need_a_projection():
    with pytest.raises(SpeechkdError, match="speech is 8 wide and the text states 5"):
        make("seq", projection="none")
    assert isinstance(make("seq", text_width=WIDTH).head, torch.nn.Identity)
    assert isinstance(make("seq", text_width=WIDTH, projection="linear").head, torch.nn.Linear)
