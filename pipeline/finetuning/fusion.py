"""How the states of a text and of its audio become one vector (CTAL's fusion).

Source: Li et al. 2021, "CTAL", section 3.3. The printed orthogonality has the text's maxima twice
below the line; both sides' lengths are meant, and taken here. The weights of the last layer are of
twice the width, not four times.

Shapes: B examples, T tokens of all texts, P positions of all audio, L positions of the longest, D
width of both.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.lengths import Lengths

Streams: TypeAlias = Literal["both", "text", "audio"]
Joining: TypeAlias = Literal["sum", "concat", "cls"]
FusionHead: TypeAlias = Literal["paper", "repository"]
LEAST_LENGTH = 1e-8


class Fusion(nn.Module):
    """Attention and maximum pooling of both streams, and their sums side by side.

    | streams | joining | vector                                                             |
    |---------|---------|--------------------------------------------------------------------|
    | both    | sum     | (attention of audio + first token) ⊕ (maxima of audio + of text)   |
    | both    | concat  | first token ⊕ attention of audio                                   |
    | text    | –       | first token ⊕ maxima of text                                       |
    | audio   | –       | attention of audio ⊕ maxima of audio                               |

    Args:
        width: D.
        streams: whose states are pooled.
        joining: how both are joined; `concat` is what the paper's Table 4 (d) has instead. `cls` is
            WhisBERT's alone.
        head: `paper` pools states. `repository`, as the released code, pools tanh of a linear layer
            of each side, leaves the first token out of the maxima of text, and passes the vector
            through another such layer.
    """

    def __init__(
        self,
        width: int,
        streams: Streams = "both",
        joining: Joining = "sum",
        head: FusionHead = "paper",
    ) -> None:
        super().__init__()
        self.width, self.streams, self.joining = width, streams, joining
        audio, text = streams != "text", streams != "audio"
        self.attention = nn.Linear(width, width, bias=False) if audio else None
        self.scores = nn.Linear(width, 1, bias=False) if audio else None
        is_released = head == "repository"
        self.of_audio = nn.Linear(width, width) if is_released and audio else None
        self.of_text = nn.Linear(width, width) if is_released and text else None
        self.of_both = nn.Linear(2 * width, 2 * width) if is_released else None

    def begin(self, generator: torch.Generator) -> None:
        """Draw all weights, N(0, 0.02) as BERT's; biases are 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    def forward(
        self,
        text_TD: Tensor | None,
        text: Lengths | None,
        audio_PD: Tensor | None,
        audio: Lengths | None,
    ) -> tuple[Tensor, Tensor]:
        """One vector per example, and how far the streams are from orthogonal.

        Args:
            text_TD: final states of the texts; None where only audio is pooled.
            text: tokens of each text.
            audio_PD: final states of the audio; None where only text is pooled.
            audio: positions of each clip.

        Returns:
            `[B, 2 D]`, and the mean over examples of |cos| of the attention-pooled vectors and of
            the maxima; 0 where one stream alone is pooled.
        """
        pooled_text, pooled_audio = None, None
        if text_TD is not None and text is not None and self.streams != "audio":
            pooled_text = self._of_text(text_TD, text)
        if audio_PD is not None and audio is not None and self.streams != "text":
            pooled_audio = self._of_audio(audio_PD, audio)
        orthogonality = torch.zeros(())
        if pooled_text is not None and pooled_audio is not None:
            (first_BD, text_max_BD), (mixed_BD, audio_max_BD) = pooled_text, pooled_audio
            apart_B = _cosine(mixed_BD, first_BD) + _cosine(audio_max_BD, text_max_BD)
            orthogonality = apart_B.mean()
            if self.joining == "concat":
                vectors_BD = torch.cat([first_BD, mixed_BD], dim=1)
            else:
                sums = mixed_BD + first_BD, audio_max_BD + text_max_BD
                vectors_BD = torch.cat(sums, dim=1)
        else:
            pooled = pooled_text or pooled_audio
            if pooled is None:
                raise ValueError(f"there are no states of the streams {self.streams}")
            vectors_BD = torch.cat(pooled, dim=1)
            orthogonality = orthogonality.to(vectors_BD)
        if self.of_both is not None:
            vectors_BD = torch.tanh(self.of_both(vectors_BD))
        return vectors_BD, orthogonality

    def _of_text(self, text_TD: Tensor, text: Lengths) -> tuple[Tensor, Tensor]:
        """The first token's state, and the maxima over tokens."""
        valid_BL = text.valid_BL
        if self.of_text is not None:
            text_TD = torch.tanh(self.of_text(text_TD))
            later_B = text.lengths_B > 1  # of a text of one token, that one
            valid_BL = torch.cat([valid_BL[:, :1] & ~later_B[:, None], valid_BL[:, 1:]], dim=1)
        padded_BLD = text_TD[text.grid_BL]
        return padded_BLD[:, 0], _maxima(padded_BLD, valid_BL)

    def _of_audio(self, audio_PD: Tensor, audio: Lengths) -> tuple[Tensor, Tensor]:
        """The mean weighted by attention, and the maxima over positions."""
        if self.attention is None or self.scores is None:
            raise ValueError("no audio is pooled")
        if self.of_audio is not None:
            audio_PD = torch.tanh(self.of_audio(audio_PD))
        score_P = self.scores(torch.tanh(self.attention(audio_PD)))[:, 0].float()
        padded_BLD = audio_PD[audio.grid_BL]
        score_BL = score_P[audio.grid_BL].masked_fill(~audio.valid_BL, -torch.inf)
        share_BL = score_BL.softmax(1).to(padded_BLD.dtype)
        mixed_BD = torch.einsum("bl,bld->bd", share_BL, padded_BLD)
        return mixed_BD, _maxima(padded_BLD, audio.valid_BL)


def _maxima(padded_BLD: Tensor, valid_BL: Tensor) -> Tensor:
    return padded_BLD.masked_fill(~valid_BL[..., None], -torch.inf).amax(1)


def _cosine(one_BD: Tensor, other_BD: Tensor) -> Tensor:
    return functional.cosine_similarity(one_BD.float(), other_BD.float(), eps=LEAST_LENGTH).abs()
