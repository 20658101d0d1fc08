"""Fluent Speech Commands, as people have it: three tables and a folder of waves become cells."""

import csv
import json

import numpy as np
import pytest
import soundfile

from pipeline.finetuning.audio_inputs import AudioClips
from stages.cache import MergeSettings, merge
from stages.extract_features import FeatureSettings
from stages.extract_features import run as extract
from stages.finetune_audio import AudioSettings
from stages.finetune_audio import run as finetune
from stages.shard import ShardSettings
from stages.shard import run as shard
from tests.helpers.speech_runs import save_speech_run

INTENTS = [
    ("activate", "lights", "kitchen"), ("bring", "juice", "none"), ("decrease", "heat", "none"),
]  # fmt: skip
COUNTS = {"train": 9, "valid": 6, "test": 6}


@pytest.fixture
def dataset(tmp_path):
    """The layout that its authors publish, an unnamed index in front of each table."""
    folder, rng = tmp_path / "fluent_speech_commands_dataset", np.random.default_rng(0)
    (folder / "data").mkdir(parents=True)
    for split, count in COUNTS.items():
        rows = []
        for number in range(count):
            speaker, intent = f"{split}{number % 2}", INTENTS[number % 3]
            path = f"wavs/speakers/{speaker}/{split}-{number}.wav"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / path, rng.standard_normal(4000) * 0.1, 16_000)
            rows.append([number, path, speaker, f"Text {number}, said", *intent])
        with (folder / "data" / f"{split}_data.csv").open("w", newline="") as file:
            names = ["", "path", "speakerId", "transcription", "action", "object", "location"]
            csv.writer(file).writerows([names, *rows])
    return folder


def test_intents_are_asked_as_the_page_says(dataset, tmp_path, capsys):
    caches = []
    for split in COUNTS:
        shard(
            ShardSettings(
                source=str(dataset / "data" / f"{split}_data.csv"), audio_folder=dataset,
                text_column="transcription", speaker_column="speakerId", out=tmp_path / split,
                workers=1,
            )
        )  # fmt: skip
        caches.append(str(tmp_path / f"{split}-mels"))
        extract(
            FeatureSettings(
                manifest=str(tmp_path / split / "manifest.jsonl"), features="whisper-mel",
                cache=caches[-1], workers=0,
            )
        )  # fmt: skip
    merge(MergeSettings(caches=caches, out=str(tmp_path / "mels")))
    clips = AudioClips.open(str(tmp_path / "mels"))
    speech = save_speech_run(tmp_path / "speech", clips, stack=8)
    finetune(
        AudioSettings(
            data=[f"{split}={dataset / 'data' / f'{split}_data.csv'}" for split in COUNTS],
            cache=str(tmp_path / "mels"), id_column="path", text_column="transcription",
            label_column="action+object+location", group_column="speakerId",
            checkpoint=[str(speech)], out=tmp_path / "results", seeds="0", epochs=1, device="cpu",
        )
    )  # fmt: skip
    cell = json.loads((tmp_path / "results" / "results.jsonl").read_text())
    assert cell["splits"] == COUNTS
    assert cell["outputs"][0] == "activate + lights + kitchen"
    assert len(cell["outputs"]) == len(INTENTS)
    assert "without a clip" not in capsys.readouterr().err
