"""The reader of passages: packed against padded, its loss and its answers against other code."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, BertModel
from transformers.loss.loss_utils import ForQuestionAnsweringLoss

from pipeline.finetuning.audio_inputs import AudioClips, speech_input
from pipeline.finetuning.audio_spans import AudioSpans, shuffled
from pipeline.finetuning.span_reader import SpanReader, SpanRecipe
from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.spans.overlap import overlap_scores
from pipeline.tasks.spans.passages import joined
from pipeline.tasks.spans.table import AskedSpan, SpanTable
from tests.helpers.caches import make_sequence_cache, samples_of, wordpiece
from tests.helpers.encoders import save_encoder
from tests.helpers.speech_runs import save_speech_run

RECIPE = {
    "epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "warmup_fraction": 0.0,
    "weight_decay": 0.0, "dropout": 0.0, "clip_norm": 1.0, "pooling": "auto", "head": "linear",
    "selection": "last", "regression_loss": "mse", "precision": "float32", "class_weights": "none",
    "max_tokens": 16, "layers": 2, "question_table": "fresh", "grid_ms": 40, "most_seconds": 30.0,
    "span_loss": "softmax",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("span-reader")
    cache = make_sequence_cache(folder / "frames", [12], "whisper-mel", width=4, most_rows=20)
    wordpiece(cache).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def spans(folder):
    """Four questions about three passages of two, one and three clips, some with two answers."""
    clips = AudioClips.open(str(folder / "frames"))
    save_speech_run(folder / "speech-run", clips, stack=2)
    keys, texts = clips.reader.clips.key, samples_of(clips.cache).texts
    rows = dict(zip(keys, clips.reader.clips.rows.tolist(), strict=True))
    seconds = {key: count / 100 for key, count in rows.items()}
    passages = {
        name: joined(name, own, seconds)
        for name, own in (("a", keys[:2]), ("b", keys[2:3]), ("c", keys[3:6]))
    }
    asked = tuple(
        AskedSpan(str(i), texts[i], name, name, "train" if i < 3 else "test", answers)
        for i, (name, answers) in enumerate(
            [
                ("a", ((0.0, 0.02), (0.03, 0.05))), ("c", ((0.05, 0.09),)),
                ("b", ((0.0, 0.01),)), ("a", ((0.02, 0.05),)),
            ]
        )
    )  # fmt: skip
    return SpanTable(asked, passages, (), has_split=True), clips


def open_reader(spans, folder, argument="", seed=0, **changes):
    recipe = SpanRecipe(**{**RECIPE, "tokenizer": str(folder / "tokenizer"), **changes})
    loaded = AudioSpans(*spans, recipe).load(argument or str(folder / "speech-run"))
    generator = torch.Generator().manual_seed(seed)
    reader = SpanReader(loaded.encoder, 4, recipe, generator)
    return reader.eval().double(), loaded.inputs()


def states_padded(reader, inputs, place):
    """The states of the cells of one question, by encoders that know nothing of packing."""
    encoder, passage = reader.encoder, inputs.passage(place)
    parts = []
    for number, clip in enumerate(passage.clips):
        clips = speech_input(inputs.frames, inputs.front, torch.tensor([clip]))
        heard = encoder.speech(
            type(clips)(clips.frames, clips.placed, clips.place_N, clips.values_NK.double())
        ).frames_ND
        cells = [piece.mean(0) for piece in heard.split(inputs.pool)]
        parts += ([encoder.mark] if number else []) + cells
    ids = torch.from_numpy(inputs.tokens(place)).long()
    words = encoder.question(encoder.words(ids))
    values = torch.cat([torch.stack(parts), words])
    heard, read = len(parts), len(ids)
    eager = BertModel(encoder.joint.config, add_pooling_layer=False).double().eval()
    eager.set_attn_implementation("eager")
    eager.load_state_dict(encoder.joint.state_dict())
    pad = 5  # places that attention must not see
    values = torch.cat([values, torch.randn(pad, values.shape[1], dtype=values.dtype)])
    states = eager(
        inputs_embeds=values[None],
        attention_mask=torch.tensor([[1] * (heard + read) + [0] * pad]),
        position_ids=torch.tensor([[*range(heard), *range(read), *[0] * pad]]),
        token_type_ids=torch.tensor([[0] * heard + [1] * read + [0] * pad]),
    ).last_hidden_state[0]
    marks = set(np.cumsum(passage.cells.per_clip)[:-1] + np.arange(len(passage.clips) - 1))
    return states[[i for i in range(heard) if i not in marks]]


@pytest.mark.parametrize("grid_ms", [20, 40])
def test_packed_states_are_those_of_each_question_padded_by_itself(spans, folder, grid_ms):
    reader, inputs = open_reader(spans, folder, grid_ms=grid_ms)
    with torch.no_grad():
        batch = inputs.batch([0, 1, 2, 3])
        clips = batch.clips.with_values(batch.clips.values_NK.double())
        got = reader.encoder(type(batch)(**{**vars(batch), "clips": clips}))
        wanted = torch.cat([states_padded(reader, inputs, place) for place in range(4)])
    assert (got - wanted).abs().max() < 1e-9
    assert len(batch.clips.frames.lengths_B) == 6  # a passage is encoded once for its questions


def scores_for(inputs, places, seed=0):
    cells = sum(inputs.passage(place).cells.count for place in places)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(cells, 2, generator=generator, dtype=torch.float64, requires_grad=True)


def test_the_loss_is_that_of_question_answering_in_transformers(spans, folder):
    reader, inputs = open_reader(spans, folder)
    scores = scores_for(inputs, [1, 2])
    parts = scores.split([inputs.passage(place).cells.count for place in (1, 2)])
    wanted = []
    for place, part in zip((1, 2), parts, strict=True):
        first, last, _ = inputs.passage(place).cells.nearest(inputs.answers_n[place][0])
        ends = (torch.tensor([first]), torch.tensor([last]))
        wanted.append(ForQuestionAnsweringLoss(part[None, :, 0], part[None, :, 1], *ends))
    got = reader.loss(inputs, [1, 2], scores)
    assert got.item() == pytest.approx((sum(wanted) / 2).item())
    (gradient,) = torch.autograd.grad(got, scores)
    (reference,) = torch.autograd.grad(sum(wanted) / 2, scores)
    assert torch.allclose(gradient, reference)


def test_several_answers_of_a_question_weigh_alike(spans, folder):
    reader, inputs = open_reader(spans, folder)
    scores = scores_for(inputs, [0])
    cells = inputs.passage(0).cells
    each = []
    for answer in inputs.answers_n[0]:
        first, last, _ = cells.nearest(answer)
        logs = scores.detach().log_softmax(0)
        each.append(-(logs[first, 0] + logs[last, 1]) / 2)
    assert reader.loss(inputs, [0], scores).item() == pytest.approx(float(sum(each) / 2))


def test_the_logistic_loss_asks_each_cell_for_a_yes_or_no(spans, folder):
    reader, inputs = open_reader(spans, folder, span_loss="bce")
    places = [0, 1]
    scores = scores_for(inputs, places)
    truth = torch.zeros_like(scores)
    at = 0
    for place in places:
        cells = inputs.passage(place).cells
        for answer in inputs.answers_n[place]:
            first, last, _ = cells.nearest(answer)
            truth[at + first, 0] = truth[at + last, 1] = 1
        at += cells.count
    wanted = functional.binary_cross_entropy_with_logits(scores, truth)
    assert reader.loss(inputs, places, scores).item() == pytest.approx(wanted.item())


@pytest.mark.parametrize(
    ("most_seconds", "span_loss"), [(30.0, "softmax"), (0.03, "softmax"), (30.0, "bce")]
)
def test_answers_are_the_best_of_all_pairs_of_cells(spans, folder, most_seconds, span_loss):
    reader, inputs = open_reader(
        spans, folder, grid_ms=20, most_seconds=most_seconds, span_loss=span_loss
    )
    places = [0, 1, 2, 3]
    scores = scores_for(inputs, places, seed=3).detach()
    reader.forward = lambda *_: scores
    got = reader.answers(inputs, places)
    assert got.dtype == torch.float32
    at = 0
    for row, place in enumerate(places):
        cells = inputs.passage(place).cells
        own = scores[at : at + cells.count].numpy()
        logs = (
            own - np.log(np.exp(own).sum(0)) if span_loss == "softmax" else -np.log1p(np.exp(-own))
        )
        most = max(1, int(most_seconds / 0.02 + 1e-9))
        every = itertools.product(range(cells.count), repeat=2)
        pairs = [(a, b) for a, b in every if a <= b < a + most]
        best = max((logs[a, 0] + logs[b, 1], a, b) for a, b in pairs)
        wanted = [cells.starts_C[best[1]], cells.ends_C[best[2]], best[0]]
        assert got[row, :3].tolist() == pytest.approx(wanted, abs=1e-6)
        times = np.array([(cells.starts_C[a], cells.ends_C[b]) for a, b in pairs])
        true = np.tile(np.array(inputs.answers_n[place]), (len(pairs), 1, 1))
        assert float(got[row, 3]) == pytest.approx(overlap_scores(true, times)[0].max())
        at += cells.count


def test_a_blind_reader_gives_two_questions_about_a_passage_one_answer(spans, folder):
    run = f"blind:{folder / 'speech-run'}"
    reader, inputs = open_reader(spans, folder, run)
    with torch.no_grad():
        first, last = reader.float().answers(inputs, [0, 3])[:, :3]
        seeing, open_inputs = open_reader(spans, folder)
        differ = seeing.float().answers(open_inputs, [0, 3])[:, 2]
    assert torch.equal(first, last)
    assert differ[0] != differ[1]


def test_shuffled_questions_are_about_other_passages_and_tests_stay(spans, folder):
    table, _ = spans
    _, inputs = open_reader(spans, folder, f"shuffled:{folder / 'speech-run'}")
    assert inputs.reads_n[3] == 3
    assert sorted(inputs.reads_n[:3]) == [0, 1, 2]
    assert all(table.rows[i].passage != table.rows[inputs.reads_n[i]].passage for i in range(3))
    many = SimpleNamespace(rows=[SimpleNamespace(passage=name) for name in "aabbbcddd"])
    taken = shuffled(many, range(9))
    assert sorted(taken) == list(range(9))
    assert all(many.rows[i].passage != many.rows[j].passage for i, j in enumerate(taken))
    few = SimpleNamespace(rows=[SimpleNamespace(passage=name) for name in "aab"])
    with pytest.raises(SpeechkdError, match="passage a has 2 of 3 training questions"):
        shuffled(few, range(3))


def test_controls_and_the_module_itself_have_digests_of_their_own(spans, folder):
    recipe = SpanRecipe(**{**RECIPE, "tokenizer": str(folder / "tokenizer")})
    load = AudioSpans(*spans, recipe).load
    run = folder / "speech-run"
    known = [load(f"x={before}{run}").checkpoint for before in ("", "shuffled:", "blind:")]
    assert len({one.weights_sha256 for one in known}) == 3
    assert len({one.parameters for one in known}) == 1


def test_scoring_takes_every_question_once_and_passages_together(spans, folder):
    _, inputs = open_reader(spans, folder)
    batches = list(inputs.batches([3, 2, 1, 0]))
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3]
    assert inputs.size([0, 1]) == inputs.size([0]) + inputs.size([1])


def test_fresh_parts_follow_the_seed_and_a_table_of_words_can_be_taken_over(spans, folder):
    one, two, other = (open_reader(spans, folder, seed=seed)[0].encoder for seed in (0, 0, 1))
    assert torch.equal(one.words.weight, two.words.weight)
    assert torch.equal(one.joint.encoder.layer[1].output.dense.weight,
                       two.joint.encoder.layer[1].output.dense.weight)  # fmt: skip
    assert not torch.equal(one.words.weight, other.words.weight)
    save_encoder(folder / "words", ["the cat sat on a dog"], width=24)
    table = AutoModel.from_pretrained(folder / "words").get_input_embeddings().weight
    taken = [
        open_reader(
            spans, folder, seed=seed, tokenizer=str(folder / "words"), question_table="own"
        )[0].encoder
        for seed in (0, 1)
    ]
    assert all(torch.equal(each.words.weight, table.double()) for each in taken)
    assert not torch.equal(taken[0].question[1].weight, taken[1].question[1].weight)
    assert taken[0].words.weight.requires_grad


def test_the_loss_reaches_every_weight_that_is_trained(spans, folder):
    reader, inputs = open_reader(spans, folder)
    reader.float().train()
    places = [0, 1, 2]
    reader.loss(inputs, places, reader(inputs, places)).backward()
    still = {
        name for name, parameter in reader.named_parameters()
        if parameter.requires_grad
        # softmax does not see them: any gradient is rounding, and some processors have none
        and not name.endswith(("key.bias", "head.1.bias"))
        and (parameter.grad is None or not parameter.grad.any())
    }  # fmt: skip
    assert still == set()
