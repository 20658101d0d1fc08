"""WhisBERT's multimodal encoder: a learned CLS, the states of a clip's audio, those of a text.

Wolf et al. 2023, section 2.1; as FLAVA's, the states of each side are projected. What is assumed
there: positions that begin anew for each side, a learned vector per side, the number of layers.

Shapes: B pairs, A audio states of all clips, N text states, M places of all pairs, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.models.lengths import Lengths, Movable
from pipeline.models.whisbert.layers import (
    Layers,
    LayerSizes,
    initialise,
    learned_vector,
    positions,
)


@dataclass(frozen=True)
class Pairing(Movable):
    """Which text each clip's audio is joined with, and where their states stand.

    A pair's places: 0 the multimodal CLS, 1 the audio's CLS, then its patches, then the text's
    [CLS] and its tokens.

    Attributes:
        lengths: places of each pair.
        audio_A: place of each audio state.
        text_N: place of each text state.
        takes_A: which audio states are joined, in the order of `audio_A`; None for all.
        takes_N: which text states are joined, in the order of `text_N`; None for all.
    """

    lengths: Lengths
    audio_A: Tensor
    text_N: Tensor
    takes_A: Tensor | None = None
    takes_N: Tensor | None = None

    @classmethod
    def of(
        cls,
        audio: Lengths,
        text: Lengths,
        pairs: tuple[Tensor, Tensor] | None = None,
    ) -> "Pairing":
        """Join audio and text; made on the host.

        Args:
            audio: audio states of each clip, CLS included.
            text: text states of each clip.
            pairs: the clips whose audio and the clips whose text are joined, one by one, each at
                most once; None for every clip with itself.

        Raises:
            ValueError: one is joined twice.
        """
        if pairs is None:
            clips_B = torch.arange(len(audio.lengths_B))
            pairs = (clips_B, clips_B)
        audio_B, text_B = pairs
        if any(len(set(some.tolist())) < len(some) for some in pairs):
            raise ValueError("a clip is joined twice")
        lengths = Lengths.of(1 + audio.lengths_B[audio_B] + text.lengths_B[text_B])
        first_B = lengths.starts_B + 1
        takes_A, place_A = _placed(audio, audio_B, first_B)
        takes_N, place_N = _placed(text, text_B, first_B + audio.lengths_B[audio_B])
        return cls(lengths, place_A, place_N, takes_A, takes_N)


def _placed(lengths: Lengths, clip_B: Tensor, first_B: Tensor) -> tuple[Tensor | None, Tensor]:
    """Which places of some sequences are taken, None for all in order, and where they go."""
    first_of = torch.full((len(lengths.lengths_B),), -1)
    first_of[clip_B] = first_B
    taken_N = first_of[lengths.sequence_N] >= 0
    place_N = (first_of[lengths.sequence_N] + lengths.offset_N)[taken_N]
    return (None if bool(taken_N.all()) else taken_N.nonzero()[:, 0]), place_N


@dataclass(frozen=True)
class Fused:
    """States of pairs.

    Attributes:
        cls_BD: one per pair.
        audio_AD: one per audio state that was joined, its clip's CLS included, in their order.
        text_ND: one per text state that was joined.
    """

    cls_BD: Tensor
    audio_AD: Tensor
    text_ND: Tensor


class Fusion(nn.Module):
    """Joins the states of a clip's audio and of a text.

    Args:
        audio_width: of the audio states.
        text_width: of the text states.
        sizes: of the layers.
    """

    def __init__(self, audio_width: int, text_width: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.width = sizes.width
        self.from_audio = nn.Linear(audio_width, sizes.width)
        self.from_text = nn.Linear(text_width, sizes.width)
        self.apply(initialise)
        self.cls_D = learned_vector(sizes.width)
        self.audio_D = learned_vector(sizes.width)
        self.text_D = learned_vector(sizes.width)
        self.layers = Layers(sizes)

    def project(
        self, audio_AD: Tensor, text_ND: Tensor, audio: Lengths, text: Lengths
    ) -> tuple[Tensor, Tensor]:
        """Both sides' states as the layers take them: projected, with place and side.

        Args:
            audio_AD: audio states, CLS included.
            text_ND: text states.
            audio: their lengths.
            text: theirs.
        """
        audio_AD = self.from_audio(audio_AD) + self.audio_D
        text_ND = self.from_text(text_ND) + self.text_D
        return (
            audio_AD + positions(audio, self.width).to(audio_AD),
            text_ND + positions(text, self.width).to(text_ND),
        )

    def forward(self, audio_AD: Tensor, text_ND: Tensor, pairing: Pairing) -> Fused:
        """Contextual states of pairs.

        Args:
            audio_AD: from `project`.
            text_ND: from `project`.
            pairing: which are joined.
        """
        lengths = pairing.lengths
        if pairing.takes_A is not None:
            audio_AD = audio_AD.index_select(0, pairing.takes_A)
        if pairing.takes_N is not None:
            text_ND = text_ND.index_select(0, pairing.takes_N)
        inputs_MD = audio_AD.new_zeros(len(lengths.sequence_N), self.width)
        inputs_MD = inputs_MD.index_copy(0, pairing.audio_A, audio_AD)
        inputs_MD = inputs_MD.index_copy(0, pairing.text_N, text_ND.to(audio_AD))
        firsts_BD = self.cls_D.to(audio_AD).expand(len(lengths.lengths_B), -1)
        inputs_MD = inputs_MD.index_copy(0, lengths.starts_B, firsts_BD)
        states_MD = self.layers(inputs_MD, lengths)
        return Fused(
            states_MD.index_select(0, lengths.starts_B),
            states_MD.index_select(0, pairing.audio_A),
            states_MD.index_select(0, pairing.text_N),
        )
