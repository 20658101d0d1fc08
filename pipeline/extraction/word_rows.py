"""The teacher's mean state of each spoken word as rows of a cache.

Shapes: B clips, K of them whose words the teacher tells, T encoder positions (20 ms each), N words
of all clips, W words of a clip, E width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pipeline.cache.identity import Dtype, Identity, sequence_identity
from pipeline.extraction.batches import WaveBatch
from pipeline.extraction.rows import Rows, packed
from pipeline.extraction.teacher import POSITIONS, Teacher
from pipeline.extraction.transcripts import Transcript, is_spoken
from pipeline.extraction.wave_teacher import WaveTeacher
from pipeline.extraction.word_times import WordAligner
from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.units import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_ENCODER_FRAME,
    Samples,
    Seconds,
    exact_div,
)
from pipeline.shards.reading import Clip
from pipeline.shards.refusals import Reason, RefusedError
from pipeline.shards.words import Word

WORDS_PER_SECOND = 20
"""Nobody says more. It bounds the rows of a clip; whoever tells more words has other times."""
SAMPLE_NANOSECONDS = exact_div(1_000_000_000, SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class WordMeans:
    """One row per word: the mean of the teacher's states while the word is said.

    The times of words are those of the sample's .json, or else the teacher tells them itself, from
    its last states whichever layer's are kept. The mean is over the positions whose centre lies in
    [start, end); of a word that has none, it is the position nearest to the word's middle.
    """

    teacher: Teacher | WaveTeacher
    aligner: WordAligner | SpeechkdError
    """What tells word times, or why the teacher cannot. The latter is raised when the first clip
    needs it."""
    language: str
    beside_reading: bool = False

    @property
    def device(self) -> torch.device:
        """The teacher's device."""
        return self.teacher.device

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of a cache of these words.

        Raises:
            SpeechkdError: clips may be longer than the teacher reads.
        """
        self.teacher.check(clip_seconds)
        aligner = self.aligner if isinstance(self.aligner, WordAligner) else None
        return sequence_identity(
            "words",
            width=self.teacher.d_model,
            most_rows=WORDS_PER_SECOND * clip_seconds,
            dtype=dtype,
            clip_seconds=clip_seconds,
            settings={
                "teacher": self.teacher.id,
                "teacher_sha256": self.teacher.sha256,
                "layer": self.teacher.layer,
                "context_seconds": self.teacher.context_seconds,
                "precision": self.teacher.precision,
                "language": self.language,
                "decoder_sha256": aligner.sha256 if aligner else "",
                "lag_ms": aligner.lag_ms if aligner else 0,
            },
        )

    @torch.inference_mode()
    @ieee_float32()
    def rows_of(self, batch: WaveBatch) -> Rows:
        """The words of each clip; a clip without any that can be trusted is refused.

        Raises:
            SpeechkdError: a clip does not tell its word times, and the teacher cannot.
        """
        plan = _Plan(batch.clips, self.aligner)
        lengths = batch.lengths_B.tolist()
        positions = [self.teacher.positions_of(n) for n in lengths]
        if not plan.transcripts or isinstance(self.teacher, WaveTeacher):
            states_BTE = self.teacher.grid(batch.waves_BS, batch.lengths_B)
        else:  # the decoder looks at all positions, as it was trained, the mean at those with audio
            states_BTE = self.teacher.states(batch.waves_BS, POSITIONS[self.teacher.context])
            if isinstance(self.aligner, WordAligner):
                place_K = torch.tensor(list(plan.transcripts))
                states_KTE = (
                    states_BTE
                    if len(place_K) == len(lengths)
                    else states_BTE[place_K.to(states_BTE.device, non_blocking=True)]
                )
                words_of_clips = self.aligner.align(
                    self.teacher.last_states(states_KTE),
                    list(plan.transcripts.values()),
                    batch.waves_BS[place_K],
                    batch.lengths_B[place_K],
                )
                for place, words in zip(plan.transcripts, words_of_clips, strict=True):
                    plan.settle(place, words)
        for place, samples in enumerate(lengths):
            plan.check_number(place, samples / SAMPLE_RATE_HZ)
            if not positions[place]:
                detail = (
                    f"{counted(samples, 'sample')} at 16 kHz, too few for one state of the teacher"
                )
                plan.refuse(place, detail, Reason.TOO_SHORT)
        grid = (self.teacher.hop_samples, self.teacher.centre_samples)
        rows_NE = word_means(states_BTE[:, : max(positions)], plan.words, positions, *grid)
        records = [{"words": [word.record() for word in words]} for words in plan.words]
        return Rows(rows_NE, [len(words) for words in plan.words], records, plan.refused)


@dataclass
class _Plan:
    """Words of a batch of clips as far as they are known, and why those of others never will be."""

    clips: Sequence[Clip]
    aligner: WordAligner | SpeechkdError
    words: list[Sequence[Word]] = field(default_factory=list)
    transcripts: dict[int, Transcript] = field(default_factory=dict)
    """By place in the batch, of the clips whose words the teacher has to tell."""
    refused: dict[int, tuple[Reason, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, clip in enumerate(self.clips):
            self.words.append(clip.words)
            if clip.words_fault:
                self.refused[place] = (Reason.UNUSABLE_WORDS, clip.words_fault)
            elif not is_spoken(clip.text):
                self.words[place] = ()
                self.refused[place] = (Reason.NO_WORD, f"the text is {clip.text[:40]!r}")
            elif not clip.words:
                if isinstance(self.aligner, SpeechkdError):
                    raise self.aligner
                try:
                    self.transcripts[place] = self.aligner.read(clip.text)
                except RefusedError as refused:
                    self.refused[place] = (refused.reason, refused.detail)

    def settle(self, place: int, words: Sequence[Word]) -> None:
        """Take the words that the teacher tells of a clip, unless it hears fewer than half."""
        self.words[place] = words
        trusted = sum(word.trusted for word in words)
        if 2 * trusted < len(words):
            found = f"the teacher finds {trusted} of its {counted(len(words), 'word')} in the audio"
            self.refuse(place, f"{found}; is the text what is said?")

    def check_number(self, place: int, duration_s: Seconds) -> None:
        """Refuse a clip of more words than can be said."""
        count, most = len(self.words[place]), max(1, math.ceil(WORDS_PER_SECOND * duration_s))
        if count > most:
            said = counted(count, "word")
            self.refuse(place, f"{said} in {duration_s:.2f} s; at most {most} can be said")

    def refuse(self, place: int, detail: str, reason: Reason = Reason.UNUSABLE_WORDS) -> None:
        """Leave a clip out, by default for its words."""
        self.words[place] = ()
        self.refused[place] = (reason, detail)


def positions_of(
    word: Word,
    positions: int,
    hop: Samples = SAMPLES_PER_ENCODER_FRAME,
    centre: Samples = SAMPLES_PER_ENCODER_FRAME // 2,
) -> tuple[int, int]:
    """The first position of a word and the one behind its last, of a clip of so many positions.

    They are those whose centre lies in [start, end), or the one nearest to the middle if there is
    none. Times are rounded to microseconds, so that a centre is met exactly.

    Args:
        word: with its times.
        positions: of the clip.
        hop: samples from one position to the next; Whisper's by default.
        centre: samples from the clip's start to the centre of its first position.
    """
    start, end = (1000 * round(1_000_000 * time) for time in (word.start_s, word.end_s))
    step, middle_of_first = hop * SAMPLE_NANOSECONDS, centre * SAMPLE_NANOSECONDS
    first, behind = (
        min(max(-((middle_of_first - time) // step), 0), positions) for time in (start, end)
    )
    if first < behind:
        return first, behind
    middle = ((start + end) // 2 - middle_of_first + step // 2) // step
    nearest = min(max(middle, 0), positions - 1)
    return nearest, nearest + 1


def word_means(
    states_BTE: torch.Tensor,
    words: Sequence[Sequence[Word]],
    positions: Sequence[int],
    hop: Samples = SAMPLES_PER_ENCODER_FRAME,
    centre: Samples = SAMPLES_PER_ENCODER_FRAME // 2,
) -> torch.Tensor:
    """Mean state of each word, accumulated in float32; float32 `[N, E]`, one clip behind the other.

    Args:
        states_BTE: the encoder's states.
        words: of each clip, perhaps none.
        positions: of each clip that hold audio, at most T.
        hop: as of `positions_of`.
        centre: as of `positions_of`.
    """
    counts = [len(of_clip) for of_clip in words]
    weights_BWT = torch.zeros(len(words), max(1, *counts), states_BTE.shape[1])
    for of_clip, weights_WT, number in zip(words, weights_BWT, positions, strict=True):
        for word, weights_T in zip(of_clip, weights_WT, strict=False):
            first, behind = positions_of(word, number, hop, centre)
            weights_T[first:behind] = 1 / (behind - first)
    means_BWE = weights_BWT.to(states_BTE.device, non_blocking=True) @ states_BTE.float()
    return packed(means_BWE, counts)
