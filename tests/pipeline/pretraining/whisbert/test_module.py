"""WhisBERT's losses against the model by hand, its shared passes, its twin, and several processes.

Shapes: A audio states, K predicted patches or tokens, N text states, P patches, D width.
"""

import copy
import math
import threading
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers.models.flava.modeling_flava import (
    FlavaITMHead,
    FlavaMaskedPredictionHead,
    FlavaTextConfig,
)

from bench.planted_whisbert import MUTATIONS
from bench.pretrain_whisbert import Straightforward, same
from pipeline.cache.sequences import SequenceReader
from pipeline.corpus.masking import Masking
from pipeline.models.whisbert.fusion import Fused
from pipeline.pretraining.whisbert.batches import Hides, Maker
from pipeline.pretraining.whisbert.costs import passes
from pipeline.pretraining.whisbert.measures import Seen
from pipeline.pretraining.whisbert.module import JointTextHead, MatchHead, WhisBERT
from pipeline.training import processes
from pipeline.training.loop import seed_dropout
from tests.helpers.encoders import save_encoder
from tests.helpers.processes import PATIENCE_SECONDS
from tests.helpers.whisbert import (
    ALL,
    audio_by_hand,
    contrast_by_hand,
    fused_by_hand,
    mel_cache,
    parts_of,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    location = tmp_path_factory.mktemp("whisbert") / "mel"
    mel_cache(location)
    return location


def built(cache, tmp_path, **changes):
    """The module and its first batch."""
    method, parts = parts_of(cache, tmp_path / "run", **changes)
    parts.ahead.close()
    batch = parts.batches.epoch(0)(0)
    return parts, batch, method.maker(parts.data)(batch)


def plain_text(student, ids_N):
    """States of one text by transformers, without packing."""
    encoder = student.encoder
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    states = encoder(input_ids=ids_N[None], attention_mask=torch.ones_like(ids_N)[None])
    encoder.set_attn_implementation(before)
    return states.last_hidden_state[0]


def by_hand(model, made, kappa=0.1):
    """All losses, clip by clip, without a shared pass; audio stem from the module."""
    text, audio, hidden = made.text, made.audio, made.audio.hidden
    packed, patches = text.packed, model.speech.patches(audio.frames)
    of_clip = audio.places.inner.sequence_N
    place_of = hidden.place_K.tolist()
    first = hidden.candidates.starts_B[hidden.rows.sequence_N]
    negative_KJ = hidden.candidate_C[first[:, None] + hidden.other_KJ]
    embedding = model.student.encoder.get_input_embeddings().weight
    sums = {name: [] for name in ("mlm", "mam", "mmm_text", "mmm_audio", "atm")}
    sides, clean = [], []
    clips = range(len(packed.lengths_B))
    for clip in clips:
        mine_N, mine_P = packed.sequence_N == clip, of_clip == clip
        masked = torch.where(hidden.masked_P[mine_P, None], model.speech.mask_D, patches[mine_P])
        sides.append(
            (audio_by_hand(model.speech, masked), plain_text(model.student, text.masked_N[mine_N]))
        )
        clean.append(
            (
                audio_by_hand(model.speech, patches[mine_P])[0],
                plain_text(model.student, packed.ids_N[mine_N])[0],
            )
        )
    for clip in clips:
        audio_AD, text_ND = sides[clip]
        states = fused_by_hand(model.fusion, audio_AD, text_ND)
        start_N, start_P = int(packed.starts_B[clip]), int(audio.places.inner.starts_B[clip])
        for place in [p for p in text.chosen_K.tolist() if packed.sequence_N[p] == clip]:
            truth, at = packed.ids_N[place], place - start_N
            logits = model.student.masked_lm_logits(text_ND[at][None])[0]
            sums["mlm"].append(functional.cross_entropy(logits, truth))
            joint = model.joint_text_head(states[1 + len(audio_AD) + at][None], embedding)[0]
            sums["mmm_text"].append(functional.cross_entropy(joint, truth))
        for k in [k for k, place in enumerate(place_of) if of_clip[place] == clip]:
            place = place_of[k]
            at = 1 + place - start_P
            own, others = patches[place], patches[negative_KJ[k]]
            sums["mam"].append(contrast_by_hand(model.audio_head(audio_AD[at]), own, others, kappa))
            sums["mmm_audio"].append(
                contrast_by_hand(model.joint_audio_head(states[1 + at]), own, others, kappa)
            )
        sums["atm"].append(-model.match_head(states[0]).log_softmax(0)[1])
    for audio_clip, text_clip in unmatched_of(made):
        states = fused_by_hand(model.fusion, sides[audio_clip][0], sides[text_clip][1])
        sums["atm"].append(-model.match_head(states[0]).log_softmax(0)[0])
    told = {name: torch.stack(values).mean() for name, values in sums.items()}
    heads = model.clip_heads
    a = functional.normalize(torch.stack([heads.audio(x) for x, _ in clean]), dim=1)
    t = functional.normalize(torch.stack([heads.text(x) for _, x in clean]), dim=1)
    losses = []
    for one, other in ((a, t), (t, a)):
        for b in clips:
            shown = [b, *made.rivals_BB[b].nonzero()[:, 0].tolist()]
            if len(shown) > 1:
                losses.append(-(heads.scale() * one[b] @ other[shown].T).log_softmax(0)[0])
    return {**told, "mmc": torch.stack(losses).mean()}


def unmatched_of(made):
    """Pairs of clips (audio, text) that are joined though they do not match."""
    pairing = made.unmatched
    pair_M = pairing.lengths.sequence_N
    audio = made.audio.places.outer.sequence_N
    text = made.text.packed.sequence_N
    if pairing.takes_A is not None:
        audio = audio[pairing.takes_A]
    if pairing.takes_N is not None:
        text = text[pairing.takes_N]
    of_audio = dict(zip(pair_M[pairing.audio_A].tolist(), audio.tolist(), strict=True))
    of_text = dict(zip(pair_M[pairing.text_N].tolist(), text.tolist(), strict=True))
    return [(of_audio[pair], of_text[pair]) for pair in sorted(of_audio)]


@pytest.mark.parametrize("among", ["masked", "all"])
def test_every_loss_is_that_of_the_model_by_hand(cache, tmp_path, among):
    parts, _, made = built(cache, tmp_path, mam_among=among, learning_rate=0.0)
    model = parts.module.eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no head is near its chance value
            parameter += 0.05 * torch.randn_like(parameter)
        told = model(made, measure=True)
        wanted = by_hand(model, made)
    for name, value in wanted.items():
        assert float(told[f"loss/{name}"]) == pytest.approx(float(value), abs=2e-4), name
    assert float(told["loss"]) == pytest.approx(sum(map(float, wanted.values())), abs=1e-3)
    assert float(told["gain/audio"]) == pytest.approx(
        float(wanted["mlm"] - wanted["mmm_text"]), abs=4e-4
    )


@torch.no_grad()
def test_the_padded_step_that_the_bench_times_has_the_same_losses(cache, tmp_path):
    """Padded, by transformers' own attention, with passes of its own for each loss."""
    parts, _, made = built(cache, tmp_path)
    same(parts.module.eval()(made), Straightforward(parts.module, made).losses())


def test_unmatched_pairs_are_of_other_texts(cache, tmp_path):
    _, batch, made = built(cache, tmp_path)
    pairs = unmatched_of(made)
    assert len(pairs) == 8
    assert all(audio != text for audio, text in pairs)
    assert sorted(text for _, text in pairs) == list(range(8))
    assert made.rivals_BB.diagonal().any().logical_not()
    assert len(batch.own_B) == 8


@pytest.mark.parametrize("broken", MUTATIONS)
def test_what_breaks_the_planted_experiment_is_seen_here_too(cache, tmp_path, broken):
    test, others = test_every_loss_is_that_of_the_model_by_hand, ("masked",)
    if broken == "unmatched pairs match":
        test, others = test_unmatched_pairs_are_of_other_texts, ()
    with MUTATIONS[broken][0](), pytest.raises(AssertionError):
        test(cache, tmp_path, *others)


LOSSES = [["mlm"], ["mlm", "mam"], ["mlm", "mmc"], ["mlm", "mmm"], ["mlm", "atm"], ALL]


@pytest.mark.parametrize("losses", LOSSES, ids="+".join)
def test_passes_are_shared(cache, tmp_path, losses):
    """Two of text, two of audio, two fused and one stem for all five; none for what is off."""
    parts, _, made = built(cache, tmp_path, losses=losses)
    model, counted = parts.module, {"text": 0, "stem": 0, "audio": 0, "fusion": 0}

    def count(name):
        def hook(*_):
            counted[name] += 1

        return hook

    model.student.encoder.register_forward_hook(count("text"))
    for name, module in (
        ("stem", model.speech and model.speech.stem),
        ("audio", model.speech and model.speech.layers),
        ("fusion", model.fusion and model.fusion.layers),
    ):
        if module is not None:
            module.register_forward_hook(count(name))
    model(made)["loss"].backward()
    announced = passes(dict.fromkeys(losses, 1.0))
    assert counted == {name: announced[name] for name in counted}
    if losses == ALL:
        assert counted == {"text": 2, "stem": 1, "audio": 2, "fusion": 2}


@pytest.mark.parametrize("losses", LOSSES, ids="+".join)
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_every_trained_parameter_gets_a_gradient(cache, tmp_path, losses, weight):
    """Distributed training waits for each; what gets none does not exist or is frozen."""
    weights = [1.0] + [weight] * (len(losses) - 1)
    parts, _, made = built(cache, tmp_path, losses=losses, weights=weights)
    parts.module(made)["loss"].backward()
    trained = {n for n, p in parts.module.named_parameters() if p.requires_grad}
    got = {n for n, p in parts.module.named_parameters() if p.grad is not None}
    assert got == trained
    heard = any(n.startswith(("speech", "fusion")) for n in trained)
    assert heard == (weight > 0 and len(losses) > 1)


def test_gradients_go_where_a_loss_comes_from(cache, tmp_path):
    """MLM never reaches the audio encoder, MAM never the text encoder; the others reach both."""
    parts, _, made = built(cache, tmp_path)
    model = parts.module
    for name, text, audio in (
        ("mlm", True, False), ("mam", False, True), ("mmc", True, True),
        ("mmm_text", True, True), ("mmm_audio", True, True), ("atm", True, True),
    ):  # fmt: skip
        model.zero_grad(set_to_none=True)
        model(made)[f"loss/{name}"].backward()
        reached = [
            any(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())
            for encoder in (model.student.encoder, model.speech)
        ]
        assert reached == [text, audio], name


def trained(cache, tmp_path, steps=20, **changes):
    """The text encoder after some steps of the loop's own arithmetic."""
    method, parts = parts_of(cache, tmp_path, epochs=5.0, **changes)
    module, make = parts.module.train(), method.maker(parts.data)
    per_epoch = parts.batches.per_epoch
    losses = []
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        made = make(parts.batches.epoch(epoch)(place))
        seed_dropout(parts.settings.seed, step)
        loss = module(made, measure=step % 2 == 0)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    parts.ahead.close()
    return module.student.state_dict(), losses


@pytest.fixture(scope="module")
def twin(cache, tmp_path_factory):
    return trained(cache, tmp_path_factory.mktemp("twin"), losses=["mlm"])


def test_with_other_weights_at_zero_the_text_encoder_follows_its_twin_bit_for_bit(
    cache, tmp_path, twin
):
    state, losses = trained(cache, tmp_path, losses=ALL, weights=[1.0, 0.0, 0.0, 0.0, 0.0])
    assert losses == twin[1]
    assert state.keys() == twin[0].keys()
    assert all(torch.equal(state[name], value) for name, value in twin[0].items())


def test_begun_with_another_encoder_it_follows_its_twin_too(cache, tmp_path):
    """One whose attention drops values, which torch draws."""
    start = save_encoder(tmp_path / "encoder", ["the cat sat", "a dog ran"])
    given = {"init_text": str(start), "steps": 4}
    state, losses = trained(cache, tmp_path, **given, losses=ALL, weights=[1.0, 0.0, 0.0, 0.0, 0.0])
    twin = trained(cache, tmp_path, **given, losses=["mlm"])
    assert losses == twin[1]
    assert all(torch.equal(state[name], value) for name, value in twin[0].items())


def test_with_weights_it_does_not(cache, tmp_path, twin):
    state, _ = trained(cache, tmp_path, steps=3, losses=["mlm", "mmc"])
    assert not all(torch.equal(state[name], value) for name, value in twin[0].items())


def test_the_twin_opens_no_frame(cache, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("rows were read")

    monkeypatch.setattr(SequenceReader, "_read", refuse)
    _, _, made = built(cache, tmp_path, losses=["mlm"])
    assert made.audio is None
    with pytest.raises(AssertionError, match="rows were read"):
        built(cache, tmp_path, losses=["mlm", "mam"])


def test_batch_mates_change_the_contrast_of_clips_alone(cache, tmp_path):
    """A clip's own terms, and its pair's states, are those that it has in any company."""
    method, parts = parts_of(cache, tmp_path)
    parts.ahead.close()
    model, make = parts.module.eval(), method.maker(parts.data)
    clips = parts.data.corpus.train
    seen = {}

    def states_of(chosen):
        batch = parts.batches.make(chosen, "train", 0, 0)
        made = make(batch)
        with torch.no_grad():
            patches = model.speech.patches(made.audio.frames)
            audio = model.speech(patches, made.audio.places, made.audio.hidden.masked_P)
            text = model.read(made.text, made.text.packed, 0)
            sides = model.fusion.project(audio, text, made.audio.places.outer, made.text.packed)
            fused = model.fusion(*sides, made.matched)
            terms = model._contrast(model.audio_head, audio, patches, made.audio)
        own = terms.loss_K[made.audio.hidden.rows.sequence_N == 0]
        mine = made.audio.places.outer.sequence_N == 0
        return audio[mine], fused.cls_BD[0], own

    first = next(
        c for c in clips if int(parts.data.corpus.parts["frames"].lengths_of(c[None])) > 200
    )
    others = clips[clips != first]
    seen = [states_of(torch.cat([first[None], some])) for some in (others[:3], others[5:12])]
    for one, other in zip(*seen, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@torch.no_grad()
def test_swapping_two_patches_moves_their_two_terms_alone(cache, tmp_path):
    """Off by one, as in a released WhisBERT, the terms of their neighbours would move instead."""
    parts, _, made = built(cache, tmp_path)
    model, audio = parts.module.eval(), made.audio
    patches = model.speech.patches(audio.frames)
    states = model.speech(patches, audio.places, audio.hidden.masked_P)
    text = model.read(made.text, made.text.packed, 0)
    sides = model.fusion.project(states, text, audio.places.outer, made.text.packed)
    fused_AD = model.fusion(*sides, made.matched).audio_AD

    def terms():
        return model._contrast(model.joint_audio_head, fused_AD, patches, audio).loss_K

    before = terms()
    one, other = 1, len(before) - 2
    swapped = audio.places.place_N[audio.hidden.place_K[[one, other]]]
    fused_AD[swapped] = fused_AD[swapped.flip(0)]
    assert (terms() != before).nonzero()[:, 0].tolist() == [one, other]


def test_heads_are_flavas():
    torch.manual_seed(0)
    config = FlavaTextConfig(hidden_size=16, vocab_size=50)
    states = torch.randn(7, 16)
    match, theirs = MatchHead(16), FlavaITMHead(config)
    theirs.pooler.dense.load_state_dict(match[0].state_dict())
    theirs.seq_relationship.load_state_dict(match[2].state_dict())
    assert torch.allclose(match(states), theirs(states[:, None]), atol=1e-6)
    head, theirs = JointTextHead(16, 16, 50), FlavaMaskedPredictionHead(config)
    theirs.transform.dense.load_state_dict(head.dense.state_dict())
    theirs.decoder.bias.data.normal_()
    head.bias_V.data.copy_(theirs.decoder.bias)
    assert torch.allclose(head(states, theirs.decoder.weight), theirs(states), atol=1e-6)


def test_losses_begin_near_their_chance_values(cache, tmp_path):
    parts, _, made = built(cache, tmp_path)
    told = parts.module(made)
    vocabulary = math.log(len(parts.data.tokenizer))
    assert float(told["loss/mlm"].detach()) == pytest.approx(vocabulary, abs=0.3)
    assert float(told["loss/mmm_text"].detach()) == pytest.approx(vocabulary, abs=0.3)
    assert float(told["loss/atm"].detach()) == pytest.approx(math.log(2), abs=0.05)


@torch.no_grad()
def test_heads_that_tell_nothing_have_the_chance_values(cache, tmp_path):
    """ln V and ln 2, and so a gain of 0: all logits are equal."""
    parts, _, made = built(cache, tmp_path)
    model = parts.module.eval()
    silent = [model.joint_text_head.norm, model.student.model.cls.predictions.transform.LayerNorm]
    for module in (*silent, model.match_head[2]):
        for parameter in module.parameters():
            parameter.zero_()
    told = model(made, measure=True)
    vocabulary = math.log(len(parts.data.tokenizer))
    assert float(told["loss/mlm"]) == pytest.approx(vocabulary, abs=1e-5)
    assert float(told["loss/mmm_text"]) == pytest.approx(vocabulary, abs=1e-5)
    assert float(told["loss/atm"]) == pytest.approx(math.log(2), abs=1e-6)
    assert float(told["gain/audio"]) == pytest.approx(0, abs=1e-5)


class Lockstep:
    """Two processes as two threads: each sum waits for the other's part, and lets gradients by."""

    def __init__(self, monkeypatch):
        self.barrier, self.parts = threading.Barrier(2, timeout=PATIENCE_SECONDS), [None, None]
        self.own = threading.local()
        monkeypatch.setattr(processes, "count", lambda: 2)
        monkeypatch.setattr(processes, "differentiable_sum", self.add)

    def add(self, value):
        self.parts[self.own.rank] = value
        self.barrier.wait()
        total = self.parts[0] + self.parts[1]
        self.barrier.wait()
        return total

    def run(self, calls):
        results = [None, None]

        def work(rank):
            self.own.rank = rank
            try:
                results[rank] = calls[rank]()
            except BaseException:
                self.barrier.abort()  # the other one waits no longer
                raise

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def test_several_processes_average_to_the_whole(cache, tmp_path, monkeypatch):
    """Values and gradients of two shares, their mean that of the whole batch; MMC with gradient.

    Partners are drawn within a share, so matching is compared apart.
    """
    losses = ["mlm", "mam", "mmc", "mmm"]
    parts, batch, made = built(cache, tmp_path, losses=losses)
    model = parts.module.train()
    whole = model(made)
    whole["loss"].backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)

    models = [copy.deepcopy(model) for _ in range(2)]
    shares = []
    for rank in range(2):
        own = replace(parts.batches, process=rank, processes=2)
        maker = Maker(
            parts.data.corpus,
            Masking.of(parts.data.tokenizer, 0.15),
            Hides(0.4, 5, 20, "masked"),
            10,
            joins=True,
            unmatched=False,
            process=rank,
        )
        shares.append(maker(own.make(batch.clip_B, "train", 0, 0)))
    told = Lockstep(monkeypatch).run([lambda r=r: models[r](shares[r]) for r in range(2)])
    for name, value in whole.items():
        mean = (told[0][name] + told[1][name]).detach() / 2
        assert float(mean) == pytest.approx(float(value.detach()), abs=2e-5), name
    ((told[0]["loss"] + told[1]["loss"]) / 2).backward()
    for name, value in wanted.items():
        # each process's gradient is that of both losses; distributed training takes their mean
        sums = [dict(m.named_parameters())[name].grad for m in models]
        assert torch.allclose(sums[0] + sums[1], value, atol=3e-5), name


def test_matching_over_several_processes_counts_all_pairs(cache, tmp_path, monkeypatch):
    torch.manual_seed(0)
    head = MatchHead(16)
    states = [torch.randn(n, 16) for n in (3, 2, 4, 3)]

    def of(matched, unmatched):
        seen, none = Seen(states[0]), torch.zeros(0, 16)
        WhisBERT._match(head, Fused(matched, none, none), Fused(unmatched, none, none), seen)
        return seen.losses["atm"], seen.match_right

    whole = of(torch.cat([states[0], states[2]]), torch.cat([states[1], states[3]]))
    halves = Lockstep(monkeypatch).run(
        [lambda: of(states[0], states[1]), lambda: of(states[2], states[3])]
    )
    for place, value in enumerate(whole):
        mean = (halves[0][place] + halves[1][place]).detach() / 2
        assert float(mean) == pytest.approx(float(value.detach()), abs=1e-6)
