"""What a batch of texts holds: tokens, and the teacher's vectors of clips and of words.

Shapes: B clips of a batch, N tokens, K chosen tokens or extra negatives, W words of a batch, E
width of the teacher.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.corpus.word_vectors import OwnWords, Sentences
from pipeline.models.lengths import Movable
from pipeline.models.packing import Packed


@dataclass(frozen=True)
class WholeBatch(Movable):
    """The clips of one batch, the same in every process that takes a share of it.

    It holds the words of the batch in the same way: what is said of clips here is said of them.

    Attributes:
        teacher_BE: the clips' teacher vectors as cached.
        row_B: their rows in the cache.
        recording_B: number of the recording that each clip was cut from; negative if unknown.
        corpus_clips: M, how many clips there are to train on.
        negative_KE: teacher vectors drawn from the whole corpus as extra negatives, or None.
        negative_row_K: their rows.
        negative_recording_K: their recordings.
        processes: how many processes share the batch.
        type_B: numbers of what words are spelled with, if those that are spelled alike are not to
            be told apart; else None.
        negative_type_K: the same of the extra negatives.
    """

    teacher_BE: Tensor
    row_B: Tensor
    recording_B: Tensor
    corpus_clips: int
    negative_KE: Tensor | None = None
    negative_row_K: Tensor | None = None
    negative_recording_K: Tensor | None = None
    processes: int = 1
    type_B: Tensor | None = None
    negative_type_K: Tensor | None = None

    def rivals_BB(self) -> Tensor:
        """Whether clip b' may be a negative of clip b: not the same clip, nor its recording."""
        rival_BB = _rivals(self.row_B, self.recording_B, self.row_B, self.recording_B)
        if self.type_B is None:
            return rival_BB
        return rival_BB.logical_and_(self.type_B[:, None] != self.type_B)

    def rivals_BK(self) -> Tensor:
        """Whether extra negative k may be a negative of clip b."""
        if self.negative_row_K is None or self.negative_recording_K is None:
            raise ValueError("the batch carries no extra negatives")
        rival_BK = _rivals(
            self.row_B, self.recording_B, self.negative_row_K, self.negative_recording_K
        )
        if self.type_B is None or self.negative_type_K is None:
            return rival_BK
        return rival_BK.logical_and_(self.type_B[:, None] != self.negative_type_K)


def _rivals(row_B: Tensor, recording_B: Tensor, row_K: Tensor, recording_K: Tensor) -> Tensor:
    if recording_B.is_cpu and not bool((recording_B < 0).any()):
        # one's own row is of one's own recording; a GPU would have to finish its work to say so
        return recording_B[:, None] != recording_K
    rival_BK = row_B[:, None] != row_K
    # two unknown recordings are not one
    known_B = torch.where(recording_B < 0, -1, recording_B)
    known_K = torch.where(recording_K < 0, -2, recording_K)
    return rival_BK.logical_and_(known_B[:, None] != known_K)


@dataclass(frozen=True)
class WordBatch(Movable):
    """The words of one batch that are taught.

    Attributes:
        own: those of this process's share, by their tokens.
        whole: the words of the whole batch, their vectors, and what else objectives compare.
        sentences: where they stand.
        total: how many there are over all processes.
    """

    own: OwnWords
    whole: WholeBatch
    sentences: Sentences
    total: int


@dataclass(frozen=True)
class SpokenBatch(Movable):
    """Which clips of one batch have speech, where not all of them do.

    Attributes:
        token_T: places of their tokens among those of this process's share.
        own_b: which clips of this process's share they are, by their place in it.
        number_B: for each clip of the whole batch its place among those with speech; -1 for none.
        clips: how many there are in the whole batch.
        tokens: how many tokens they have over all processes.
    """

    token_T: Tensor
    own_b: Tensor
    number_B: Tensor
    clips: int
    tokens: int

    @classmethod
    def of(
        cls, spoken_B: Tensor, lengths_B: Tensor, packed: Packed, process: int, processes: int
    ) -> "SpokenBatch":
        """Those of a batch.

        Args:
            spoken_B: which clips of the whole batch have speech.
            lengths_B: tokens of each of them.
            packed: the sequences of this process's share.
            process: its number.
            processes: how many share the batch.
        """
        own_b = spoken_B[process::processes]
        return cls(
            token_T=own_b[packed.sequence_N].nonzero()[:, 0],
            own_b=own_b.nonzero()[:, 0],
            number_B=torch.where(spoken_B, spoken_B.cumsum(0) - 1, -1),
            clips=int(spoken_B.sum()),
            tokens=int(lengths_B[spoken_B].sum()),
        )


@dataclass(frozen=True)
class TokenBatch(Movable):
    """A process's share of one batch: its tokens, and the clips of the whole batch.

    Attributes:
        packed: this process's sequences, unmasked.
        masked_N: the same tokens with masks.
        chosen_K: places of the tokens to predict.
        chosen_total: how many tokens all processes predict together.
        clip_N: for each token, its clip's place in the whole batch.
        special_N: which tokens are special.
        number_N: a number of each token that no other token of the corpus has.
        dropout_key: names the dropout of this step, int64 `[]`.
        clip_B: the whole batch's clips in the corpus.
        lengths_B: tokens of each of these clips.
        tokens: their sum.
        whole: the teacher vectors of those with speech, and what else objectives compare.
        words: the words that are taught; None if none shall be.
        spoken: which clips have speech; None if all have.
    """

    packed: Packed
    masked_N: Tensor
    chosen_K: Tensor
    chosen_total: int
    clip_N: Tensor
    special_N: Tensor
    number_N: Tensor
    dropout_key: Tensor
    clip_B: Tensor
    lengths_B: Tensor
    tokens: int
    whole: WholeBatch
    words: WordBatch | None = None
    spoken: SpokenBatch | None = None
