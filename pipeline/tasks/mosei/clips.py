"""The clips of CMU-MOSEI, one per row of the tidy table, whatever file they came from."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.untrusted import is_unicode
from pipeline.tasks.mosei.scale import check_scale, mapped
from pipeline.tasks.splits import SPLITS

EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
"""In the order of the label file's columns, after sentiment."""

UNKNOWN = math.nan


@dataclass(frozen=True)
class MoseiClip:
    """One labelled clip.

    Attributes:
        video_id: the recording; no recording may be in two splits.
        clip_id: the clip's name within its recording, as its source writes it.
        split: `train`, `valid`, `test`, or empty if the clip is in no fold.
        text: what is said.
        sentiment: -3 (very negative) to 3; NaN if unknown.
        emotions: strength of each of `EMOTIONS`, 0 to 3 (or 0 and 1); NaN if unknown.
        start_s: start in the recording, in seconds; NaN if unknown.
        end_s: end in the recording, in seconds; NaN if unknown.
    """

    video_id: str
    clip_id: str
    split: str
    text: str
    sentiment: float = UNKNOWN
    emotions: tuple[float, ...] = (UNKNOWN,) * len(EMOTIONS)
    start_s: float = UNKNOWN
    end_s: float = UNKNOWN

    @property
    def id(self) -> str:
        """Name of the clip, unique in the corpus, as the SDK writes it: `video[clip]`."""
        return f"{self.video_id}[{self.clip_id}]"


@dataclass(frozen=True)
class MoseiClips:
    """Clips in the order of their source, and what was done to them while reading.

    Attributes:
        clips: the clips that remain.
        source: the file or folder they came from.
        notes: what was clamped, left out or not matched, and how often.
    """

    clips: tuple[MoseiClip, ...]
    source: str
    notes: Mapping[str, int] = field(default_factory=dict)

    def of(self, split: str) -> tuple[MoseiClip, ...]:
        """The clips of one split."""
        return tuple(clip for clip in self.clips if clip.split == split)

    def counts(self) -> dict[str, int]:
        """Number of clips per split; clips in no fold, if any, are counted under `none`."""
        counts = Counter(clip.split for clip in self.clips)
        named = {split: counts[split] for split in SPLITS}
        return {**named, "none": counts[""]} if counts[""] else named

    @property
    def sha256(self) -> str:
        """Digest of ids, splits, texts and labels: the data set's identity in results."""
        digest = hashlib.sha256()
        for clip in self.clips:
            row = [clip.id, clip.split, clip.text, repr(clip.sentiment), *map(repr, clip.emotions)]
            digest.update(json.dumps(row).encode() + b"\n")
        return digest.hexdigest()


def tidy(
    clips: Iterable[MoseiClip],
    source: str,
    notes: Mapping[str, int] | None = None,
    scale: tuple[float, float] | None = None,
) -> MoseiClips:
    """Check clips and bring their values into range.

    Labels of another scale are mapped onto CMU-MOSEI's. Values outside the scale are clamped; the
    label files are known to have emotions over 3, sentiments up to 5 and negative start times. Lone
    surrogates in texts are replaced. Clips without text or without any label are left out. Each of
    these is counted in the notes.

    Args:
        clips: as their source has them.
        source: its name, for messages.
        notes: what was done while reading.
        scale: that of the sentiment labels; None for CMU-MOSEI's own, which is checked.

    Raises:
        SpeechkdError: no clip remains, two clips have the same id, or the labels are plainly of
            another scale.
    """
    counted: Counter[str] = Counter(notes or {})
    tidied: list[MoseiClip] = []
    clips = list(clips)
    check_scale([c.sentiment for c in clips if not math.isnan(c.sentiment)], scale, source)
    if scale:
        clips = [replace(clip, sentiment=mapped(clip.sentiment, scale)) for clip in clips]
    for clip in clips:
        if not clip.text.strip():
            counted["clips without text, left out"] += 1
            continue
        if math.isnan(clip.sentiment) and all(map(math.isnan, clip.emotions)):
            counted["clips without any label, left out"] += 1
            continue
        tidied.append(_clamped(clip, counted))
    if not tidied:
        raise SpeechkdError(
            f"{source} holds no clip with both text and a label"
            + (f" ({_in_words(counted)})" if counted else "")
            + "; is it CMU-MOSEI in one of the layouts of docs/finetuning.md?"
        )
    _check_ids(tidied, source)
    return MoseiClips(tuple(tidied), source, {key: n for key, n in counted.items() if n})


def _clamped(clip: MoseiClip, counted: Counter[str]) -> MoseiClip:
    def within(value: float, low: float, high: float, what: str) -> float:
        if math.isnan(value) or low <= value <= high:
            return value
        counted[what] += 1
        return min(max(value, low), high)

    def whole(text: str) -> str:
        if is_unicode(text):
            return text
        counted["texts or ids with half a character (a lone surrogate), replaced"] += 1
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    return replace(
        clip,
        video_id=whole(clip.video_id),
        clip_id=whole(clip.clip_id),
        text=" ".join(whole(clip.text).split()),
        sentiment=within(clip.sentiment, -3, 3, "sentiment values beyond ±3, clamped"),
        emotions=tuple(
            within(value, 0, 3, "emotion values beyond 0 to 3, clamped") for value in clip.emotions
        ),
        start_s=within(clip.start_s, 0, math.inf, "negative start times, set to 0"),
    )


def _check_ids(clips: Sequence[MoseiClip], source: str) -> None:
    twice = [name for name, n in Counter(clip.id for clip in clips).items() if n > 1]
    if twice:
        raise SpeechkdError(
            f"{source}: {counted(len(twice), 'clip is', 'clips are')} listed more than once, "
            f"{twice[0]} among them. Remove the repetitions: a clip counted twice distorts every "
            "figure."
        )


def check_splits(clips: Sequence[MoseiClip], source: str) -> None:
    """Refuse splits that cannot be used for training and testing.

    Raises:
        SpeechkdError: a split has an unknown name, or a video is in two.
    """
    split_of: dict[str, str] = {}
    for clip in clips:
        if clip.split not in (*SPLITS, ""):
            raise SpeechkdError(
                f"{source}: clip {clip.id} is in split {clip.split!r}; splits are "
                f"{', '.join(SPLITS)}, or empty for none."
            )
        if split_of.setdefault(clip.video_id, clip.split) != clip.split:
            raise SpeechkdError(
                f"{source}: video {clip.video_id} is both in "
                f"{split_of[clip.video_id] or 'no split'} and in {clip.split or 'no split'}. A "
                "speaker met in training must not be in the test: put each video into one split, "
                "or use --split made."
            )


def with_folds(corpus: MoseiClips, folds: Mapping[str, str], folds_source: str) -> MoseiClips:
    """Give each clip the split that a list of folds names for its video.

    Clips of videos that the list does not name are in no fold. These, and videos of the list that
    have no clip, are counted in the notes.

    Raises:
        SpeechkdError: the list names none of the corpus's videos.
    """
    videos = {clip.video_id for clip in corpus.clips}
    if not videos & set(folds):
        raise SpeechkdError(
            f"{folds_source} names none of the {len(videos)} videos in {corpus.source} "
            f"(first there: {sorted(videos)[0]}; first in the list: {min(folds, default='none')})."
        )
    clips = tuple(replace(clip, split=folds.get(clip.video_id, "")) for clip in corpus.clips)
    check_splits(clips, folds_source)
    notes = {
        **corpus.notes,
        "clips of videos in no fold": sum(clip.split == "" for clip in clips),
        "videos in the folds that have no clip": len(set(folds) - videos),
    }
    return MoseiClips(clips, corpus.source, {key: n for key, n in notes.items() if n})


def _in_words(notes: Mapping[str, int]) -> str:
    return "; ".join(f"{key}: {n:,}" for key, n in notes.items())
