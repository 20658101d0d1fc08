"""From caches and tokenizers to what is asked of clips and words.

Shapes: C clips that are read, n items, E width of the teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from pipeline.cache.identity import Kind
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import vectors_by_key
from pipeline.corpus.joining import Listing, join
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter, counted
from pipeline.foundation.seeds import derive
from pipeline.tasks.hearing import counts, prosody
from pipeline.tasks.hearing.asking import Features
from pipeline.tasks.hearing.clips import Clip, read_clips
from pipeline.tasks.hearing.halves import UNKNOWN, By, Halves, halve, numbers
from pipeline.tasks.hearing.judging import Examination, Items, examine
from pipeline.tasks.hearing.names import Level
from pipeline.tasks.hearing.states import TokenizedTexts
from pipeline.tasks.hearing.trainings import Trainings
from pipeline.tasks.hearing.unheard import What, unheard
from pipeline.tasks.hearing.words import Spoken, Words, asked_words, read_spoken, word_vectors

JUDGED: tuple[Kind, ...] = ("vector", "words")
WORDS_ALONE: tuple[Kind, ...] = ("words",)
PROSODY_ALONE: tuple[Kind, ...] = ("prosody",)


@dataclass(frozen=True)
class Caches:
    """The caches that are probed.

    Attributes:
        main: the one that is named first: of vectors or of words.
        words: of words; None for none.
        prosody: of prosody; None for none.
    """

    main: TeacherCache
    words: TeacherCache | None
    prosody: TeacherCache | None

    @classmethod
    def open(cls, main: str, words: str | None, prosody: str | None) -> "Caches":
        """Open caches by their locations.

        Raises:
            SpeechkdError: one is of another kind, or both the first and `words` are of words.
        """
        first = TeacherCache.open(main, kinds=JUDGED)
        own = first if first.identity.kind == "words" else None
        if own and words:
            raise SpeechkdError(
                f"{main} is a cache of words, and so is --words {words}. Name a cache of vectors "
                "first, or leave --words out."
            )
        return cls(
            first,
            own or (TeacherCache.open(words, kinds=WORDS_ALONE) if words else None),
            TeacherCache.open(prosody, kinds=PROSODY_ALONE) if prosody else None,
        )

    @property
    def vectors(self) -> TeacherCache | None:
        """The cache of vectors of clips; None if there is none."""
        return self.main if self.main.identity.kind == "vector" else None

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digest of each cache by its kind."""
        several = (self.main, self.words, self.prosody)
        return {cache.identity.kind: cache.digest() for cache in several if cache}


@dataclass(frozen=True)
class Chosen:
    """The clips whose texts are read.

    Attributes:
        clips: as the first cache has them.
        words: as that of words has them; empty without one.
        prosody_C: the place of each in the cache of prosody; empty without one.
        notes: what was left out, in words.
    """

    clips: Sequence[Clip]
    words: Sequence[Clip]
    prosody_C: Array
    notes: Sequence[str]


def choose(caches: Caches, trainings: Trainings, *, new: What, most: int, seed: int) -> Chosen:
    """The clips that all caches have and no student was trained on, or some of them.

    Args:
        caches: the caches.
        trainings: of the students.
        new: what must be new to them.
        most: clips; if there are more, whole recordings are drawn until there are so many.
        seed: of the draw.

    Raises:
        SpeechkdError: the caches hardly meet, or too few clips remain.
    """
    clips = read_clips(caches.main)
    word_clips = clips
    listings = {"CACHE": _listing(caches.main, clips)}
    if caches.words and caches.words is not caches.main:
        word_clips = read_clips(caches.words)
        listings["--words"] = _listing(caches.words, word_clips)
    if caches.prosody:
        listings["--prosody"] = _listing(caches.prosody, read_clips(caches.prosody))
    joined = join(listings)
    place_of = {name: own.tolist() for name, own in joined.places.items()}
    common = [clips[place] for place in place_of["CACHE"]]
    rest = unheard(common, trainings, new, caches.main.location)
    places = _whole_recordings([common[place] for place in rest.places], most, seed)
    mine = [rest.places[place] for place in places]
    notes = [*filter(None, [joined.in_words()]), *rest.notes]
    if len(places) < len(rest.places):
        notes.append(
            f"{counted(len(mine), 'clip')} of {len(rest.places):,} are judged, whole recordings "
            "that were drawn"
        )
    of_words = place_of.get("--words", place_of["CACHE"])
    return Chosen(
        [common[place] for place in mine],
        [word_clips[of_words[place]] for place in mine] if caches.words else [],
        np.array([place_of["--prosody"][p] for p in mine] if caches.prosody else [], np.int64),
        notes,
    )


def _listing(cache: TeacherCache, clips: Sequence[Clip]) -> Listing:
    return Listing(cache.location, [clip.key for clip in clips], [clip.text for clip in clips])


def _whole_recordings(clips: Sequence[Clip], most: int, seed: int) -> list[int]:
    """Places of whole recordings, drawn until there are so many clips, in their order."""
    if len(clips) <= most:
        return list(range(len(clips)))
    recording_C = numbers([clip.recording for clip in clips], own=True)
    sizes = np.bincount(recording_C)
    order = np.random.default_rng(derive(seed, "recordings")).permutation(len(sizes))
    first = order[: int(np.searchsorted(np.cumsum(sizes[order]), most)) + 1]
    return np.flatnonzero(np.isin(recording_C, first)).tolist()


@dataclass(frozen=True)
class Asking:
    """What is asked of clips and words.

    Attributes:
        examinations: by level.
        words: the words that are asked of; None without a cache of words.
        texts: of all clips that are read.
        spoken: the words of these; None without a cache of words.
        halves: by what no two halves share.
        notes: what was left out, in words.
    """

    examinations: Mapping[Level, Examination]
    words: Words | None
    texts: Sequence[str]
    spoken: Sequence[Spoken] | None
    halves: By
    notes: Sequence[str]

    def features(self, clips_CD: Array, words_WD: Array) -> dict[Level, Features]:
        """Hidden states of clips and words as features of the items."""
        vectors: dict[Level, Array] = {"word": words_WD}
        if "clip" in self.examinations:
            vectors["clip"] = clips_CD[self.examinations["clip"].items.clip_n]
        return {level: Features.of_states(vectors[level]) for level in self.examinations}

    def counts(self) -> dict[Level, Features]:
        """Word counts as features of the items."""
        features: dict[Level, Features] = {}
        if "clip" in self.examinations:
            value_CD, standardized_D = counts.of_clips(self.texts)
            own_nD = value_CD[self.examinations["clip"].items.clip_n]
            features["clip"] = Features(own_nD, standardized_D)
        if "word" in self.examinations and self.words and self.spoken:
            features["word"] = Features(
                *counts.of_words(self.words, [one.texts for one in self.spoken])
            )
        return features

    def answers_from(
        self, features: Mapping[Level, Features], device: torch.device
    ) -> dict[Level, dict[str, Array]]:
        """What is told from some features, by level."""
        return {
            level: one.answers(features[level], device) for level, one in self.examinations.items()
        }


def spoken_of(caches: Caches, chosen: Chosen) -> list[Spoken] | None:
    """The words of the chosen clips; None without a cache of words."""
    return read_spoken(caches.words, chosen.words) if caches.words else None


def prepare(
    caches: Caches,
    chosen: Chosen,
    spoken: Sequence[Spoken] | None,
    read: Mapping[str, TokenizedTexts],
    *,
    by: By | Literal["auto"],
    among: int,
    seed: int,
) -> Asking:
    """Decide what is asked of the chosen clips and their words.

    Args:
        caches: the caches.
        chosen: the clips.
        spoken: their words.
        read: their texts as each encoder reads them.
        by: what no two halves share, or `auto`.
        among: the most candidates of a half.
        seed: of halves, folds and candidates.

    Raises:
        SpeechkdError: there are too few clips, recordings or words, or nothing can be asked.
    """
    notes = list(chosen.notes)
    texts = [clip.text for clip in chosen.clips]
    silent_C = np.zeros(len(texts), bool)
    for tokens in read.values():
        silent_C |= tokens.silent_C
    if silent_C.any():
        notes.append(
            f"{counted(int(silent_C.sum()), 'clip')} left out, of whose text some encoder has no "
            "token"
        )
    clip_n = np.flatnonzero(~silent_C)
    halves = halve([chosen.clips[place] for place in clip_n.tolist()], by, seed)
    notes.append(_told_of(halves, len(clip_n)))
    if len(set(halves.speaker_C.tolist()) - {UNKNOWN}) == 1:
        notes.append("they are of one speaker alone, so that within speaker is the same as raw")
    words: Words | None = None
    examinations: dict[Level, Examination] = {}
    clip_targets: dict[str, Array] = {}
    word_targets: dict[str, Array] = {}
    if caches.words and spoken:
        read_by = [[set(one) for one in tokens.words_C] for tokens in read.values()]
        audible = [one if not silent else Spoken([], *(np.empty(0),) * 3, 0, None)
                   for one, silent in zip(spoken, silent_C, strict=True)]  # fmt: skip
        words = asked_words(audible, read_by, caches.words.location)
        notes.append(words.omissions)
        clip_targets, word_targets = _times(words, len(texts))
    if caches.prosody:
        of_clips, of_words = _prosody(caches.prosody, chosen, words)
        clip_targets, word_targets = of_clips | clip_targets, of_words | word_targets
    clip_targets = {name: value_C[clip_n] for name, value_C in clip_targets.items()}
    vector_nE = None
    if caches.vectors:
        _, vector_nE = vectors_by_key(
            caches.vectors, [chosen.clips[p].key for p in clip_n.tolist()]
        )
    missing: list[str] = []
    asked: list[tuple[Items, Array | None, Mapping[str, Array]]] = [
        (_clip_items(chosen, clip_n, halves), vector_nE, clip_targets)
    ]
    if words and caches.words:
        items = _word_items(words, chosen, clip_n, halves)
        asked.append((items, word_vectors(caches.words, words), word_targets))
    for items, vectors, targets in asked:
        one = examine(items, vectors, targets, among=among, seed=seed)
        if one.vectors or one.targets:
            examinations[items.level] = one
        else:
            missing += one.missing
    if not examinations:
        raise SpeechkdError(
            f"{caches.main.location}: nothing can be asked: {'; '.join(missing) or 'no target'}."
        )
    return Asking(examinations, words, texts, spoken, halves.by, [*notes, *missing])


def _told_of(halves: Halves, clips: int) -> str:
    who = f", {counted(halves.speakers, 'speaker')}" if halves.speakers else ""
    return (
        f"{counted(clips, 'clip')} of {counted(halves.recordings, 'recording')}{who} are judged, "
        f"each by what the other half gave; no {halves.by} is in both halves"
    )


def _clip_items(chosen: Chosen, clip_n: Array, halves: Halves) -> Items:
    count = len(clip_n)
    return Items(
        level="clip",
        clip_n=clip_n,
        key_n=[chosen.clips[place].key for place in clip_n.tolist()],
        number_n=np.full(count, -1),
        text_n=[""] * count,
        recording_n=halves.recording_C,
        speaker_n=halves.speaker_C,
        type_n=np.full(count, -1),
        half_n=halves.half_C,
        fold_n=halves.fold_C,
    )


def _word_items(words: Words, chosen: Chosen, clip_n: Array, halves: Halves) -> Items:
    # words of clips that are left out are not asked of, so each clip has a place here
    place_W = np.searchsorted(clip_n, words.clip_W)
    return Items(
        level="word",
        clip_n=words.clip_W,
        key_n=[chosen.clips[place].key for place in words.clip_W.tolist()],
        number_n=words.number_W,
        text_n=words.texts,
        recording_n=halves.recording_C[place_W],
        speaker_n=halves.speaker_C[place_W],
        type_n=words.type_W,
        half_n=halves.half_C[place_W],
        fold_n=halves.fold_C[place_W],
    )


def _times(words: Words, clips: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the times of words tell: pauses of clips; pauses and rates of words."""
    known = np.isfinite(words.pause_W)
    sums_C = np.bincount(words.clip_W[known], words.pause_W[known], minlength=clips)
    counts_C = np.bincount(words.clip_W[known], minlength=clips)
    with np.errstate(invalid="ignore"):
        pause_C = np.where(counts_C > 0, sums_C / counts_C, np.nan)
    rate_W = prosody.rates(words.texts, words.start_W, words.end_W)
    return {"pause": pause_C}, {"rate": rate_W, "pause": words.pause_W}


def _prosody(
    cache: TeacherCache, chosen: Chosen, words: Words | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Pitch, energy and rate of clips `[C]`; pitch and energy of words `[W]`."""
    reader = SequenceReader(cache, with_words=False)
    identity = cache.identity
    frame_seconds = identity.hop_samples / identity.sample_rate_hz
    of_clips: dict[str, list[float]] = {}
    of_words: dict[str, Array] = {}
    if words:
        of_words = {n: np.full(len(words), np.nan) for n in ("pitch", "pitch range", "energy")}
        order_W = np.argsort(words.clip_W, kind="stable")
        ends = np.searchsorted(words.clip_W[order_W], np.arange(len(chosen.clips)), side="right")
        begins = np.append(0, ends[:-1])
    with Meter("reading prosody", len(chosen.clips), "clips") as meter:
        for clip, place in enumerate(chosen.prosody_C.tolist()):
            frames_F3 = reader.values([place]).numpy().astype(np.float32)
            of_text = prosody.of_clip(chosen.clips[clip].text, frames_F3, frame_seconds)
            for name, value in of_text.items():
                of_clips.setdefault(name, []).append(value)
            if words:
                mine = order_W[begins[clip] : ends[clip]]
                by_name = prosody.of_words(
                    words.start_W[mine], words.end_W[mine], frames_F3, frame_seconds
                )
                for name, value_W in by_name.items():
                    of_words[name][mine] = value_W
            meter.advance(1)
    return {name: np.array(values) for name, values in of_clips.items()}, of_words
