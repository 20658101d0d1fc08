"""CMU-MOSEI's clips are found in each of the layouts in which people have its audio."""

import pytest

from pipeline.foundation.errors import NotThere
from pipeline.tasks.mosei.clips import MoseiClip
from pipeline.tasks.mosei.recordings import Heard, placed


def clip(video="v-1", name="3", **changes):
    return MoseiClip(video, name, "train", "text", 1.0, **changes)


@pytest.mark.parametrize(
    ("file", "whole"),
    [
        ("Raw/v-1/3.mp4", True),  # MMSA
        ("Segmented_Audio/train/v-1_3.wav", True),  # s3prl
        ("Audio/Full/WAV_16000/v-1.wav", False),  # the SDK
    ],
)
def test_each_layout_is_known(tmp_path, file, whole):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    (tmp_path / "v-1_3.txt").touch()
    found = placed([clip(start_s=0.0, end_s=2.0)], tmp_path)
    assert found.stretches == [Heard(file, whole=whole)]
    assert (found.without_recording, found.without_times, found.unused) == (0, 0, 0)


def test_sound_goes_before_the_film_of_the_same_clip(tmp_path):
    (tmp_path / "v-1").mkdir()
    for name in ("3.mp4", "3.wav"):
        (tmp_path / "v-1" / name).touch()
    assert placed([clip()], tmp_path).stretches == [Heard("v-1/3.wav", whole=True)]


def test_what_has_no_counterpart_is_counted(tmp_path):
    for name in ("v-1.wav", "v-8.wav", "v-9.wav"):
        (tmp_path / name).touch()
    clips = [
        clip(start_s=1.0, end_s=2.0), clip(name="4"), clip(name="5", start_s=2.0, end_s=2.0),
        clip(video="v-2"), clip(video="v-3"),
    ]  # fmt: skip
    found = placed(clips, tmp_path)
    assert found.clips == clips[:1]
    assert (found.without_recording, found.without_times, found.unused) == (2, 2, 2)


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_folder_without_recordings_is_an_error(tmp_path, folder):
    with pytest.raises(NotThere, match="no recording is below it"):
        placed([clip()], tmp_path / folder)
