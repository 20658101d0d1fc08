"""Clips as examples: their vectors are the module's own, and attention is a softmax per clip."""

import numpy as np
import pytest
import torch

from pipeline.finetuning.audio_inputs import AudioClips, SpeechEncoder
from pipeline.models.lengths import Lengths
from pipeline.models.speech import SpeechInput, SpeechShape, attended, build_speech
from tests.helpers.caches import make_sequence_cache
from tests.helpers.speech_runs import save_speech_run

COUNTS = [1, 6, 3]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio") / "frames"
    make_sequence_cache(folder, [12, 9], "whisper-mel", width=4, most_rows=20)
    return AudioClips.open(str(folder))


def test_attention_is_a_softmax_within_each_clip():
    frames = Lengths.of(torch.tensor(COUNTS))
    states_ND = torch.randn(sum(COUNTS), 5)
    score_N = torch.randn(sum(COUNTS)) * 200  # far beyond what exp can take
    given = attended(states_ND, score_N, frames)
    for place, (states, scores) in enumerate(
        zip(states_ND.split(COUNTS), score_N.split(COUNTS), strict=True)
    ):
        torch.testing.assert_close(given[place], scores.softmax(0) @ states)


def test_a_fresh_query_is_the_mean_of_the_frames():
    torch.manual_seed(0)
    speech = build_speech(
        SpeechShape(channels=4, most_rows=20, layers=1, width=8, heads=2, dropout=0.0)
    )
    batch = SpeechInput.of(Lengths.of(torch.tensor(COUNTS)), torch.randn(sum(COUNTS), 4), "cls")
    encoder = SpeechEncoder(speech, "attention")
    torch.testing.assert_close(
        encoder.vectors(batch, "attention"), SpeechEncoder(speech, "mean").vectors(batch, "mean")
    )
    encoder.vectors(batch, "attention")[:, 0].sum().backward()
    assert encoder.query.grad.abs().max() > 0
    with pytest.raises(ValueError, match="no pooling attention"):
        SpeechEncoder(speech, "cls").vectors(batch, "attention")


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention"])
def test_batches_give_each_clip_the_vector_that_it_has_alone(clips, tmp_path, pooling):
    run = save_speech_run(tmp_path / "run", clips)
    keys = [clips.reader.clips.key[place] for place in (7, 0, 20, 3)]
    loaded = clips.load(keys, pooling, str(run))
    inputs, encoder = loaded.inputs(), loaded.encoder.eval()
    with torch.no_grad():
        together = inputs.vectors(encoder, [0, 1, 2, 3], pooling)
        for place in range(4):
            alone = inputs.vectors(encoder, [place], pooling)
            torch.testing.assert_close(alone[0], together[place], atol=1e-5, rtol=1e-5)
    rows = clips.reader.clips.rows[[7, 0, 20, 3]]
    assert inputs.size([0, 1, 2, 3]) == int(np.ceil(rows / 2).sum())
    assert sorted(i for batch in inputs.batches([3, 1]) for i in batch) == [0, 1]


@pytest.mark.parametrize(
    ("align", "wanted"), [("seq", "cls"), ("tok", "attention"), ("tok-contrast", "attention")]
)
def test_modules_that_were_aligned_by_token_are_read_by_attention(
    clips, tmp_path, align, wanted, capsys
):
    run = save_speech_run(tmp_path / "run", clips, align=align)
    loaded = clips.load([clips.reader.clips.key[0]], "auto", str(run))
    assert loaded.encoder.pooling == wanted
    assert ("asks nothing of the vector" in capsys.readouterr().err) == (wanted == "attention")


def test_fresh_weights_have_a_run_s_size_and_are_the_same_each_time(clips, tmp_path):
    run = save_speech_run(tmp_path / "run", clips)
    keys = [clips.reader.clips.key[0]]
    trained = clips.load(keys, "cls", str(run)).checkpoint
    torch.manual_seed(4)
    fresh = clips.load(keys, "cls", f"Scratch=fresh:{run}").checkpoint
    torch.manual_seed(5)
    again = clips.load(keys, "cls", f"fresh:{run}").checkpoint
    assert fresh.label == "Scratch"
    assert fresh.parameters == trained.parameters
    assert fresh.weights_sha256 == again.weights_sha256 != trained.weights_sha256
    assert fresh.objective is None
