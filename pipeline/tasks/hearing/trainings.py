"""What each student was trained on, found out again from its run's record and its cache.

A run records its cache, its seed and the share that it held out. Which recordings these are
follows, so they are told again here, and checked against the numbers in the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.corpus.corpus import split_by_recording
from pipeline.corpus.row_corpus import numbered
from pipeline.corpus.tokenization import Encoding
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.models.encoders import run_of
from pipeline.models.loading import load_tokenizer
from pipeline.tasks.hearing.clips import read_clips

TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class Training:
    """What some students were trained on.

    Attributes:
        location: of the cache.
        known: key and text of each of its clips.
        read: those of them that students were trained on.
        recordings: names of the recordings that these are of.
        speakers: names of their speakers.
        names: names of all its recordings, those that were held out among them.
        clips: how many it has with a token.
        trained: how many of them students were trained on.
    """

    location: str
    known: frozenset[tuple[str, str]]
    read: frozenset[tuple[str, str]]
    recordings: frozenset[str]
    speakers: frozenset[str]
    names: frozenset[str]
    clips: int
    trained: int


@dataclass(frozen=True)
class Trainings:
    """What the students among some encoders were trained on.

    Attributes:
        of: per label, one training per run that its weights went through, the last one first; an
            encoder that is no student has none, and a run of texts without speech is none.
        unchecked: per label, why it cannot be told what it was trained on.
    """

    of: Mapping[str, Sequence[Training]]
    unchecked: Mapping[str, str]


class TrainingReader:
    """Reads what runs were trained on; runs of one cache, seed and tokenizer are read once.

    Args:
        here: caches that may be the ones that runs name, should these have been moved.
    """

    def __init__(self, here: Sequence[TeacherCache]) -> None:
        self._caches = {cache.digest(): cache for cache in here}
        self._read: dict[tuple[Any, ...], Training] = {}

    def read(
        self, checkpoints: Mapping[str, str], tokenizers: Mapping[str, PreTrainedTokenizerBase]
    ) -> Trainings:
        """What the weights of checkpoints were trained on.

        Args:
            checkpoints: per label, as the user wrote it.
            tokenizers: per label, the one that its student reads with.

        Raises:
            SpeechkdError: a checkpoint is not there, or the record of its run is damaged.
        """
        of: dict[str, list[Training]] = {}
        unchecked: dict[str, str] = {}
        for label, checkpoint in checkpoints.items():
            run: dict[str, Any] = run_of(checkpoint)
            tokenizer = tokenizers[label]
            of[label] = []
            try:
                while run:
                    if not _is_of_texts_alone(run):
                        of[label].append(self._of(run, tokenizer))
                    start = run["settings"].get("init")
                    run = _run_behind(start) if isinstance(start, str) else {}
                    tokenizer = load_tokenizer(str(start)) if run else tokenizer
            except SpeechkdError as error:
                unchecked[label] = str(error).rstrip(".")
        return Trainings(of, unchecked)

    def _of(self, run: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Training:
        settings = run["settings"]
        try:
            data = run["data"]
            location, digest = str(data["cache"]), str(data["cache_sha256"])
            texts = data.get("texts", {})
            # texts without speech stand behind a cache's clips, and change nothing in their split
            clips = int(data["clips"]) - int(texts.get("texts", 0))
            trained = int(data["train_clips"]) - int(texts.get("train_texts", 0))
            share, seed = float(settings["held_out"]), int(settings["seed"])
            max_tokens = int(settings["max_tokens"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Damaged("its run.json does not say which cache it was trained on") from None
        key = (digest, share, seed, max_tokens, clips, trained)
        if key not in self._read:
            cache = self._cache(location, digest)
            training = read_training(cache, tokenizer, max_tokens, share, seed)
            if (training.clips, training.trained) != (clips, trained):
                raise SpeechkdError(
                    f"run.json says {trained:,} of {clips:,} clips, and {location} gives "
                    f"{training.trained:,} of {training.clips:,}"
                )
            self._read[key] = training
        return self._read[key]

    def _cache(self, location: str, digest: str) -> TeacherCache:
        if digest not in self._caches:
            try:
                cache = TeacherCache.open(location, kinds=KINDS)
            except (SpeechkdError, OSError) as error:
                raise SpeechkdError(f"its cache {location} cannot be read ({error})") from None
            if cache.digest() != digest:
                raise SpeechkdError(f"its cache {location} has changed since")
            self._caches[digest] = cache
        return self._caches[digest]


def read_training(
    cache: TeacherCache,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    share: float,
    seed: int,
) -> Training:
    """What `speechkd distill` trains on, of the clips of a cache.

    Args:
        cache: the cache.
        tokenizer: the student's; clips of whose texts it makes no token are left out.
        max_tokens: of the longest text.
        share: of clips that are held out, by whole recordings.
        seed: decides which.
    """
    encode = Encoding(tokenizer, max_tokens)
    around = len(encode.prefix) + len(encode.suffix)
    everything = read_clips(cache)
    clips = []
    for first in range(0, len(everything), TEXTS_AT_ONCE):
        some = everything[first : first + TEXTS_AT_ONCE]
        lengths = encode([clip.text for clip in some]).lengths_B.tolist()
        clips += [clip for clip, length in zip(some, lengths, strict=True) if length > around]
    train, _ = split_by_recording(numbered([clip.recording for clip in clips]), share, seed)
    read = [clips[place] for place in train.tolist()]
    return Training(
        location=cache.location,
        known=frozenset(clip.said for clip in clips),
        read=frozenset(clip.said for clip in read),
        recordings=frozenset(clip.recording for clip in read if clip.recording is not None),
        speakers=frozenset(clip.speaker for clip in read if clip.speaker is not None),
        names=frozenset(clip.recording for clip in clips if clip.recording is not None),
        clips=len(clips),
        trained=len(read),
    )


def _is_of_texts_alone(run: Mapping[str, Any]) -> bool:
    """Whether a run had tables of texts and no cache: it heard nothing."""
    data = run.get("data")
    return isinstance(data, dict) and "texts" in data and "cache" not in data


def _run_behind(init: str) -> dict[str, Any]:
    """The record of the run whose student another one started from; empty if it is none's."""
    folder = Path(init)
    return run_of(str(folder.parent)) if (folder.parent / "run.json").is_file() else run_of(init)
