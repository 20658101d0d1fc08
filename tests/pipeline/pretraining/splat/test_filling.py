"""The loss of masked audio: brute force, batch mates, and what needs no learning."""

import pytest
import torch

from pipeline.corpus.draws import PLACES
from pipeline.corpus.stacking import stack_rows, stacked_lengths
from pipeline.models.lengths import Lengths
from pipeline.models.speech import SpeechInput, SpeechShape, build_speech
from pipeline.pretraining.splat import filling as filling_room
from pipeline.pretraining.splat.filling import Filling, cell_errors, references
from pipeline.pretraining.splat.masking import Hidden, filled_in
from pipeline.pretraining.splat.reading import Masked, SpeechBatch

COUNTS = [5, 1, 9, 4]
CHANNELS, STACK = 3, 2


def masked_of(values_NC, frame_N, channel_BC, counts):
    rows = Lengths.of(torch.tensor(counts))
    hidden = Hidden(frame_N, channel_BC)
    shown_NC = values_NC.masked_fill(hidden.cells(rows), 0)
    return Masked(stack_rows(shown_NC, rows, STACK), values_NC, hidden, rows)


def draw(counts=COUNTS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values_NC = torch.randn(sum(counts), CHANNELS, generator=generator)
    frame_N = torch.rand(sum(counts), generator=generator) < 0.5
    channel_BC = torch.rand(len(counts), CHANNELS, generator=generator) < 0.4
    frame_N[0], channel_BC[0] = True, torch.tensor([True, False, False])
    return values_NC, frame_N, channel_BC


def batch_of(values_NC, frame_N, channel_BC, counts, *, frames=None, processes=1, numbers=None):
    masked = masked_of(values_NC, frame_N, channel_BC, counts)
    rows = masked.rows
    positions = Lengths.of(stacked_lengths(rows.lengths_B, STACK))
    numbers = torch.arange(len(counts)) if numbers is None else numbers
    return SpeechBatch(
        clips=SpeechInput.of(positions, stack_rows(values_NC, rows, STACK), "cls"),
        number_B=numbers * PLACES,
        key=torch.tensor(3),
        frames=frames or sum(counts),
        clips_in_all=len(counts),
        processes=processes,
        masked=masked,
    )


def filling(reconstruct="all", dropout=0.0):
    torch.manual_seed(1)
    speech = build_speech(
        SpeechShape(
            channels=CHANNELS, most_rows=20, stack=STACK, layers=1, width=8, heads=2,
            dropout=dropout,
        )
    )  # fmt: skip
    return Filling(speech, CHANNELS, STACK, reconstruct)


@pytest.mark.parametrize("reconstruct", ["all", "masked"])
def test_the_loss_is_that_of_a_loop_over_cells(reconstruct):
    values_NC, frame_N, channel_BC = draw()
    module = filling(reconstruct).eval()
    batch = batch_of(values_NC, frame_N, channel_BC, COUNTS)
    losses = module(batch, measure=True)
    with torch.no_grad():
        predicted_MK = module.head(
            module.speech(batch.clips.with_values(batch.masked.shown_MK)).frames_ND
        ).double()
    sums = {"hidden-time": [], "hidden-channel": [], "visible": []}
    row = position = 0
    for clip, count in enumerate(COUNTS):
        for frame in range(count):
            predicted = predicted_MK[position + frame // STACK].view(STACK, CHANNELS)[frame % STACK]
            for channel in range(CHANNELS):
                error = abs(float(predicted[channel]) - float(values_NC[row, channel]))
                way = "visible"
                if frame_N[row]:
                    way = "hidden-time"
                elif channel_BC[clip, channel]:
                    way = "hidden-channel"
                sums[way].append(error)
            row += 1
        position += -(-count // STACK)
    hidden = sums["hidden-time"] + sums["hidden-channel"]
    every = hidden + sums["visible"]
    chosen = every if reconstruct == "all" else hidden
    assert float(losses["loss"]) == pytest.approx(sum(chosen) / len(chosen), rel=1e-5)
    for way, errors in sums.items():
        assert float(losses[f"loss/{way}"]) == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert losses["loss/masked-audio"].requires_grad is False


def test_a_clip_s_loss_does_not_depend_on_its_mates_nor_on_how_often_it_is_there():
    values_NC, frame_N, channel_BC = draw()
    module = filling(dropout=0.2).train()
    once = module(batch_of(values_NC, frame_N, channel_BC, COUNTS))["loss"]
    doubled = batch_of(
        torch.cat([values_NC] * 2), torch.cat([frame_N] * 2), torch.cat([channel_BC] * 2),
        COUNTS * 2, numbers=torch.arange(4).repeat(2),
    )  # fmt: skip
    torch.testing.assert_close(module(doubled)["loss"], once)


def test_what_is_hidden_is_not_seen():
    values_NC, frame_N, channel_BC = draw()
    module = filling().eval()
    before = module(batch_of(values_NC, frame_N, channel_BC, COUNTS))
    other_NC = values_NC.clone()
    cells = Hidden(frame_N, channel_BC).cells(Lengths.of(torch.tensor(COUNTS)))
    other_NC[cells] += 5
    after = module(batch_of(other_NC, frame_N, channel_BC, COUNTS))
    torch.testing.assert_close(after["loss/visible"], before["loss/visible"])
    assert after["loss/hidden-time"] > before["loss/hidden-time"]


def test_what_needs_no_learning_is_measured_on_the_same_cells():
    values_NC, frame_N, channel_BC = draw()
    masked = masked_of(values_NC, frame_N, channel_BC, COUNTS)
    _, counts = cell_errors(values_NC, masked)
    told = references(masked, counts, 1)
    shown_NC = values_NC.masked_fill(masked.hidden.cells(masked.rows), 0)
    line_NC = filled_in(shown_NC, masked.hidden, masked.rows)
    by_hand = (line_NC - values_NC).abs()[frame_N].mean()
    assert float(told["line/hidden-time"]) == pytest.approx(float(by_hand))
    zero = values_NC.abs()[frame_N].mean()
    assert float(told["zero/hidden-time"]) == pytest.approx(float(zero))


@pytest.mark.parametrize("frames", [1, 9, 20])
def test_references_do_not_depend_on_how_many_frames_are_looked_at_at_once(frames, monkeypatch):
    values_NC, frame_N, channel_BC = draw()
    masked = masked_of(values_NC, frame_N, channel_BC, COUNTS)
    _, counts = cell_errors(values_NC, masked)
    whole = references(masked, counts, 1)
    assert [len(piece.target_NC) for piece in masked.pieces(sum(COUNTS))] == [sum(COUNTS)]
    monkeypatch.setattr(filling_room, "PIECE_FRAMES", frames)
    torch.testing.assert_close(references(masked, counts, 1), whole)


def test_smooth_frames_are_filled_in_by_lines_alone():
    count = 60
    ramp_NC = torch.arange(count).float()[:, None].expand(count, CHANNELS) / 10
    frame_N = torch.zeros(count, dtype=torch.bool)
    frame_N[10:16] = True
    masked = masked_of(ramp_NC, frame_N, torch.zeros(1, CHANNELS, dtype=torch.bool), [count])
    _, counts = cell_errors(ramp_NC, masked)
    told = references(masked, counts, 1)
    assert float(told["line/hidden-time"]) == pytest.approx(0, abs=1e-6)
    assert float(told["repeat/hidden-time"]) > 0.3


def test_gradients_are_those_of_the_difference_quotient():
    values_NC, frame_N, channel_BC = draw([4, 3], seed=4)
    module = filling().double().eval()
    batch = batch_of(values_NC.double(), frame_N, channel_BC, [4, 3])
    weight = module.speech.inputs.weight

    def loss():
        return module(batch)["loss"]

    gradient = torch.autograd.grad(loss(), weight)[0]
    for place in ((0, 0), (3, 2), (7, 5)):
        step = 1e-4
        with torch.no_grad():
            weight[place] += step
            up = float(loss())
            weight[place] -= 2 * step
            down = float(loss())
            weight[place] += step
        assert float(gradient[place]) == pytest.approx((up - down) / (2 * step), abs=2e-4)
