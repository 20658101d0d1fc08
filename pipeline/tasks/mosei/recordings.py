"""Where the clips of CMU-MOSEI are heard: in the recordings of videos, or in a file per clip.

Three layouts are known: `WAV_16000/VIDEO.wav` of the SDK's raw data, which a clip's times cut;
`Raw/VIDEO/CLIP.mp4` as MMSA has it; and `Segmented_Audio/SPLIT/VIDEO_CLIP.wav` as s3prl has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.errors import NotThere
from pipeline.shards.recordings import AUDIO_SUFFIXES, DECODED_SUFFIXES
from pipeline.shards.walking import files_below
from pipeline.tasks.mosei.clips import MoseiClip


@dataclass(frozen=True)
class Heard:
    """Where a clip is heard.

    Attributes:
        path: of the recording, below the folder.
        whole: whether all of the recording is the clip; else the clip's times cut it.
    """

    path: str
    whole: bool


@dataclass(frozen=True)
class Placed:
    """Clips with their recordings, and how many of either have no counterpart.

    Attributes:
        clips: that can be heard, in their order.
        stretches: where, one for each.
        without_recording: clips of which no recording is there.
        without_times: clips whose video is there, but not when in it they are said.
        unused: recordings that no clip is heard in.
    """

    clips: Sequence[MoseiClip]
    stretches: Sequence[Heard]
    without_recording: int
    without_times: int
    unused: int


def placed(clips: Sequence[MoseiClip], folder: Path) -> Placed:
    """Look for the recording of each clip.

    Args:
        clips: labelled ones.
        folder: of the recordings, at any depth.

    Raises:
        NotThere: the folder holds no recording.
    """
    by_name: dict[str, str] = {}
    by_folder: dict[tuple[str, str], str] = {}
    files = sorted(
        (path for path in files_below(folder) if path.suffix.lower() in AUDIO_SUFFIXES),
        key=lambda path: (path.suffix.lower() not in DECODED_SUFFIXES, path.as_posix()),
    ) if folder.is_dir() else []  # fmt: skip
    for path in files:  # what libsndfile reads goes before a film of the same name
        place = path.relative_to(folder).as_posix()
        by_name.setdefault(path.stem, place)
        by_folder.setdefault((path.parent.name, path.stem), place)
    if not files:
        raise NotThere(f"{folder}: no recording is below it. Name the folder of the audio.")
    chosen: list[MoseiClip] = []
    heard: list[Heard] = []
    without_recording = without_times = 0
    for clip in clips:
        own = by_folder.get((clip.video_id, clip.clip_id)) or by_name.get(
            f"{clip.video_id}_{clip.clip_id}"
        )
        video = by_name.get(clip.video_id)
        if own is None and video is None:
            without_recording += 1
        elif own is None and not clip.start_s < clip.end_s:  # NaN if it is not known
            without_times += 1
        else:
            chosen.append(clip)
            heard.append(Heard(own or video or "", whole=own is not None))
    used = {place.path for place in heard}
    names = {*by_name.values(), *by_folder.values()}
    return Placed(chosen, heard, without_recording, without_times, len(names - used))
