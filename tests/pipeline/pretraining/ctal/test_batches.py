"""What CTAL reads and predicts: hidden frames leave no trace, and shares are one batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.corpus.acoustic import normalise
from pipeline.corpus.frame_features import FrameFeatures, front_end
from pipeline.corpus.masking import Masking
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import read_rows
from pipeline.pretraining.ctal.batches import CtalMaker, lines, share_of, shown
from pipeline.pretraining.ctal.masking import FrameMasking, HiddenFrames
from tests.helpers.caches import make_sequence_cache, wordpiece

CHANNELS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_sequence_cache(
        tmp_path_factory.mktemp("ctal") / "mels", [9, 12], "ctal-mel", width=CHANNELS, most_rows=90
    )


@pytest.fixture(scope="module")
def make(cache):
    tokenizer = wordpiece(cache)
    corpus = read_rows(
        {"frames": cache}, held_out_share=0.2, seed=0, tokenizer=tokenizer, max_tokens=16
    )

    def of(process=0, processes=1, seed=3, **changes):
        features = FrameFeatures(front_end(cache.identity), "clip", "clean", 1, 1000)
        features = replace(features, **changes)
        frames = FrameMasking(share=0.3, shortest=8, longest=20, stack=features.stack)
        maker = CtalMaker(corpus, Masking.of(tokenizer, 0.15), frames, features)
        rows = RowBatches(corpus, 8, seed, process=process, processes=processes)
        return lambda epoch=0, place=0: maker(rows.epoch(epoch)(place))

    return of


def hidden_of(*counts: int) -> HiddenFrames:
    """Drawn for clips of so many frames, of which at least one is zeroed."""
    masking = FrameMasking(share=0.4, shortest=8, longest=20)
    return masking.choose(torch.arange(len(counts)), torch.tensor(counts), 5, "frames", 0)


def features_of(deltas: str) -> FrameFeatures:
    return FrameFeatures({"width": CHANNELS}, "clip", deltas, 1, 1000)


@pytest.mark.parametrize(("deltas", "leaks"), [("clean", False), ("paper", True)])
def test_hidden_frames_leave_a_trace_in_the_papers_deltas_alone(deltas, leaks):
    counts_B = torch.tensor([120, 60, 200])
    normal = normalise(torch.randn(380, CHANNELS), counts_B)
    drawn = hidden_of(120, 60, 200)
    # a frame that stands in another one's place is shown there
    secret_F = drawn.hidden_F.clone()
    secret_F[drawn.source_F[drawn.source_F >= 0]] = False
    assert int(secret_F.sum()) > 20
    loud = replace(normal, mel_FM=normal.mel_FM.masked_fill(secret_F[:, None], 1e6))
    features = features_of(deltas)
    # the two differ in the deltas of the loud frames, which are clean ones of others' neighbours
    before, after = (shown(features, one, features.clean(one), drawn) for one in (normal, loud))
    changed_F = (before != after).any(1)
    assert bool(changed_F.any()) == leaks
    if leaks:
        assert not (changed_F & drawn.hidden_F & (drawn.source_F < 0)).any()


def test_the_target_does_not_depend_on_what_is_hidden(make):
    """A frame that is chosen twice, beside other hidden ones, has the same target both times."""
    batch_of, targets, again = make(), {}, 0
    for epoch in range(4):
        batch = batch_of(epoch)
        numbers = batch.position_number_P[batch.chosen_J].tolist()
        for number, target_SM in zip(numbers, batch.target_JSM, strict=True):
            assert torch.equal(targets.setdefault(number, target_SM), target_SM)
        again += len(numbers)
    assert again > len(targets) + 20


def test_segments_that_stay_as_they_are_are_predicted_too(make):
    """Of what is chosen a tenth is shown as it is; the model is not told which."""
    batch_of, shown_in_vain, chosen = make(), 0, 0
    for epoch in range(8):
        batch = batch_of(epoch)
        read_JC = batch.read_PC[batch.chosen_J][:, :CHANNELS]
        as_it_is_J = (read_JC == batch.target_JSM[:, 0, :CHANNELS]).all(1)
        shown_in_vain += int(as_it_is_J.sum())
        chosen += len(batch.chosen_J)
    assert 0.03 < shown_in_vain / chosen < 0.25


def test_targets_are_the_clean_features_of_the_chosen_frames(make, cache):
    import zarr

    stored = zarr.open_group(str(cache.folder.path), mode="r")["rows"]
    extents = [
        (sample["row"], sample["rows"])
        for shard in cache.receipts()
        for sample in cache.shard_samples(shard)
    ]
    batch = make()()
    clip_B = (batch.position_number_P[batch.audio.starts_B] // 2**20).tolist()
    expected = []
    for clip in clip_B:
        row, rows = extents[clip]
        mel = torch.from_numpy(stored[row : row + rows].astype(np.float32))
        normal = normalise(mel, torch.tensor([rows]))
        expected.append(normal.with_deltas(normal.mel_FM))
    expected_FW = torch.cat(expected)[batch.chosen_J]
    torch.testing.assert_close(batch.target_JSM[:, 0], expected_FW, rtol=0, atol=1e-5)
    assert bool(batch.real_JS.all())
    assert batch.frames_total == len(batch.chosen_J)


@pytest.mark.parametrize("stack", [1, 3])
def test_two_processes_share_what_one_would_have(make, stack):
    whole = make(stack=stack)(1, 1)
    shares = [make(process, 2, stack=stack)(1, 1) for process in range(2)]
    for name in ("chosen_total", "frames_total", "middle_total", "frames", "clips"):
        assert {getattr(share, name) for share in shares} == {getattr(whole, name)}
    numbers = torch.cat([share.position_number_P for share in shares])
    order = {int(number): place for place, number in enumerate(whole.position_number_P)}
    place_P = torch.tensor([order[int(number)] for number in numbers])
    torch.testing.assert_close(
        torch.cat([share.read_PC for share in shares]), whole.read_PC[place_P], rtol=0, atol=1e-6
    )
    chosen = [share.position_number_P[share.chosen_J] for share in shares]
    assert sorted(torch.cat(chosen).tolist()) == sorted(
        whole.position_number_P[whole.chosen_J].tolist()
    )
    masked = [share.token_number_N[share.chosen_K] for share in shares]
    assert sorted(torch.cat(masked).tolist()) == sorted(
        whole.token_number_N[whole.chosen_K].tolist()
    )
    torch.testing.assert_close(
        torch.stack([share.lines for share in shares]).mean(0), whole.lines, rtol=1e-5, atol=1e-6
    )


def test_a_batch_is_a_function_of_its_place(make):
    one, again, other = make()(2, 0), make()(2, 0), make()(3, 0)
    assert torch.equal(one.read_PC, again.read_PC)
    assert torch.equal(one.chosen_J, again.chosen_J)
    assert one.read_PC.shape != other.read_PC.shape


def test_stacked_positions_hold_the_frames_of_plain_ones(make):
    plain, stacked = make(stack=1)(), make(stack=2)()
    # lengths of segments differ, so what is hidden does; what is predicted is stacked alike
    assert stacked.target_JSM.shape[1:] == (2, 2 * CHANNELS)
    assert stacked.read_PC.shape[1] == 2 * plain.read_PC.shape[1]
    counts = -(-plain.audio.lengths_B // 2)
    assert torch.equal(stacked.audio.lengths_B, counts)
    assert stacked.frames_total == int(stacked.real_JS.sum())


def test_lines_need_no_model():
    """One clip by hand: frames 2 to 5 hidden, the last of them also by a wrong frame."""
    clean_FW = torch.tensor([[0.0], [1.0], [5.0], [6.0], [7.0], [8.0], [6.0]])
    drawn = HiddenFrames(
        chosen_F=torch.tensor([0, 0, 1, 1, 1, 1, 1]).bool(),
        hidden_F=torch.tensor([0, 0, 1, 1, 1, 1, 0]).bool(),
        source_F=torch.tensor([-1, -1, -1, -1, -1, 0, -1]),
        distance_F=torch.tensor([0, 0, 1, 2, 2, 1, 0]),
    )
    shown_FW = drawn.shown(clean_FW)
    zero, between, held = lines(clean_FW, shown_FW, drawn, torch.tensor([7])).tolist()
    assert zero == 5 + 6 + 7 + 8 + 6
    assert between == pytest.approx(3 + 3 + 3 + 3 + 0)  # the line from 1 to 6: 2, 3, 4, 5
    assert held == 4 + 5 + 6 + 7 + 0


def test_lines_at_the_ends_of_a_clip_hold_the_one_side_that_there_is():
    clean_FW = torch.arange(6.0)[:, None]
    hidden_F = torch.tensor([1, 1, 0, 0, 1, 1]).bool()
    drawn = HiddenFrames(hidden_F, hidden_F, torch.full((6,), -1), hidden_F.long())
    _, between, held = lines(clean_FW, drawn.shown(clean_FW), drawn, torch.tensor([3, 3])).tolist()
    assert between == held == (2 - 0) + (2 - 1) + (4 - 3) + (5 - 3)


def test_a_share_keeps_its_own_sources():
    drawn = hidden_of(120, 60, 200)
    mine_F = torch.cat([torch.ones(120), torch.zeros(60), torch.ones(200)]).bool()
    values_FC = torch.randn(380, 2)
    own = share_of(drawn, mine_F)
    torch.testing.assert_close(own.shown(values_FC[mine_F]), drawn.shown(values_FC)[mine_F])
