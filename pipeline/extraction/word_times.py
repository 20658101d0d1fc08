"""When each word of a clip is said, as the teacher itself tells it.

Whisper's decoder reads the transcript. Some heads of its cross-attention follow the audio, and
dynamic time warping turns where they look into a start and an end of each word.

Shapes: B clips, L tokens, T encoder positions (20 ms each), E width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

import torch

from pipeline.extraction.alignment import TokenPath, attention_to_costs, cheapest_path
from pipeline.extraction.decoder import AlignmentDecoder, AlignmentHeads
from pipeline.extraction.decoder_weights import read_decoder
from pipeline.extraction.teacher import Teacher
from pipeline.extraction.transcripts import Transcript, TranscriptReader
from pipeline.extraction.wave_teacher import WaveTeacher
from pipeline.extraction.weights import tensors_sha256
from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError, Unreachable
from pipeline.foundation.progress import say
from pipeline.foundation.units import SAMPLE_RATE_HZ, SAMPLES_PER_ENCODER_FRAME, exact_div
from pipeline.shards.words import Word

POSITION_MS = exact_div(1000 * SAMPLES_PER_ENCODER_FRAME, SAMPLE_RATE_HZ)
MOST_SCORES = 2**25
"""Values of one batch of attention scores; a batch of more is divided."""
LAG_MS: dict[tuple[int, AlignmentHeads], int] = {
    (384, ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4))): 100,  # tiny.en
    (512, ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))): 0,  # base
}
"""By how much boundaries between words come late, as far as it was measured, by the width of the
teacher and its alignment heads, whose habit it is (docs/word-times.md)."""
MOST_COST = -1.0
"""A word whose mean cost is over it is not where the path puts it: 0.2 % of 578 words of right
texts are over it, and 65 % of 684 words of other clips' texts (docs/word-times.md)."""
ONSET_BELOW_PEAK = 10 ** (-35 / 20)
"""A position with less than this share of the loudest position's amplitude is silent."""


@dataclass(frozen=True)
class WordAligner:
    """Transcripts and encoder states → words with their times. Built by `load_aligner`."""

    reader: TranscriptReader
    decoder: AlignmentDecoder
    sha256: str
    """Digest of the decoder's tensors."""
    lag_ms: int
    """What is taken off each boundary between words."""

    def read(self, text: str) -> Transcript:
        """Tokens and words of a text.

        Raises:
            RefusedError: the text has no word, or is not for this decoder.
        """
        return self.reader.read(text)

    @torch.inference_mode()
    @ieee_float32()
    def align(
        self,
        hidden_BTE: torch.Tensor,
        transcripts: Sequence[Transcript],
        waves_BS: torch.Tensor,
        lengths_B: torch.Tensor,
    ) -> list[list[Word]]:
        """Find the words of a batch of clips. A clip's words do not depend on the others.

        The first word begins where the clip is first loud, because a path begins at the clip's
        beginning, whatever silence there is.

        Args:
            hidden_BTE: last hidden states of all positions that the encoder saw.
            transcripts: one per clip.
            waves_BS: the clips.
            lengths_B: samples of each clip.

        Returns:
            Per clip its words, in order.
        """
        positions_B = (lengths_B + SAMPLES_PER_ENCODER_FRAME - 1) // SAMPLES_PER_ENCODER_FRAME
        positions_B = positions_B.clamp(1, hidden_BTE.shape[1])
        onsets_B = onsets(waves_BS).tolist()
        words: list[list[Word]] = [[] for _ in transcripts]
        for part in self._parts(transcripts, hidden_BTE.shape[1]):
            chosen = torch.tensor(part)
            path = self._path(
                hidden_BTE if len(part) == len(words) else hidden_BTE[chosen.to(hidden_BTE.device)],
                [transcripts[i] for i in part],
                positions_B[chosen],
            )
            for place, i in enumerate(part):
                rows = sum(group.tokens for group in transcripts[i].groups) + 1
                first_N = path.first_BN[place, :rows]
                boundaries = _boundaries_ms(first_N, onsets_B[i], self.lag_ms)
                costs = path.cost_BN[place, :rows].tolist()
                words[i] = _words(transcripts[i], boundaries, costs, int(lengths_B[i]))
        return words

    def _parts(self, transcripts: Sequence[Transcript], positions: int) -> Iterator[list[int]]:
        """Divide a batch so that its scores fit memory, like lengths together if it must be."""
        heads = len(self.decoder.heads)
        tokens = [len(t.tokens) for t in transcripts]
        if len(tokens) * max(tokens) * heads * positions <= MOST_SCORES:
            yield list(range(len(tokens)))
            return
        part: list[int] = []
        for i in sorted(range(len(tokens)), key=tokens.__getitem__):
            if part and (len(part) + 1) * tokens[i] * heads * positions > MOST_SCORES:
                yield part
                part = []
            part.append(i)
        yield part

    def _path(
        self,
        hidden_BTE: torch.Tensor,
        transcripts: Sequence[Transcript],
        positions_B: torch.Tensor,
    ) -> TokenPath:
        device = hidden_BTE.device
        end = transcripts[0].tokens[-1]
        longest = max(len(t.tokens) for t in transcripts)
        tokens_BL = torch.tensor(
            [t.tokens + [end] * (longest - len(t.tokens)) for t in transcripts]
        )
        tokens_B = torch.tensor([len(t.tokens) for t in transcripts])
        scores_BALT = self.decoder(tokens_BL.to(device), hidden_BTE)
        most = int(positions_B.max())
        positions_B, tokens_B = positions_B.to(device), tokens_B.to(device)
        cost_BLT = attention_to_costs(scores_BALT[..., :most], tokens_B, positions_B)
        # the last token of the prompt predicts the text's first one; the end predicts nothing
        first = transcripts[0].prompt - 1
        path = cheapest_path(cost_BLT[:, first:-1], tokens_B - first - 1, positions_B)
        return TokenPath(path.first_BN.cpu(), path.last_BN.cpu(), path.cost_BN.cpu())


def aligner_or_why_not(
    name: str, language: str, lag_ms: int | None, teacher: Teacher | WaveTeacher
) -> WordAligner | SpeechkdError:
    """What tells the word times of a teacher, or the reason why it cannot, as an error to raise.

    A teacher needs to tell none where every sample's .json does, so it may lack what that takes.

    Args:
        name: as for `load_teacher`.
        language: Whisper's code of the language that is spoken.
        lag_ms: by how much its boundaries between words come late; None for what is known of it.
        teacher: its encoder.
    """
    remedy = (
        "Let the samples' .json tell `words` with their times, which `speechkd shard` fills from "
        "what aligners write; --keep vector and --keep states need none."
    )
    if isinstance(teacher, WaveTeacher):
        return SpeechkdError(
            f"--teacher {name} has no decoder, so it cannot tell when a word is said. {remedy}"
        )
    place = (teacher.device, teacher.precision)
    try:
        return load_aligner(name, language, teacher.d_model, *place, lag_ms=lag_ms)
    except (NotThere, Unreachable) as error:
        return error


def load_aligner(
    name: str,
    language: str,
    d_model: int,
    device: torch.device,
    precision: str,
    *,
    lag_ms: int | None = None,
) -> WordAligner:
    """Load the decoder of a teacher, as far as word times need it.

    Args:
        name: as for `load_teacher`.
        language: Whisper's code of the language that is spoken, such as `en`.
        d_model: width of the encoder.
        device: where to compute.
        precision: torch's name of the decoder's precision.
        lag_ms: by how much its boundaries between words come late; None for what is known of it.

    Raises:
        SpeechkdError: it has no decoder, alignment heads, tokenizer or such language.
    """
    files = read_decoder(name)
    if files.shape.d_model != d_model:
        raise Damaged(
            f"--teacher {name}: its decoder is {files.shape.d_model} wide, its encoder {d_model}."
        )
    reader = files.reader(language, name)
    if lag_ms is None:
        lag_ms = LAG_MS.get((d_model, files.heads))
    if lag_ms is None:
        lag_ms = 0
        say(
            f"--teacher {name}: nobody has measured how late its own word times come (100 ms for "
            "tiny.en); 0 is taken. bench/word_times.py measures it for --lag-ms."
        )
    decoder = files.decoder().to(device, getattr(torch, precision))
    return WordAligner(reader, decoder, tensors_sha256(files.tensors), lag_ms)


def onsets(waves_BS: torch.Tensor) -> torch.Tensor:
    """First position of each clip that is loud, by its root mean square; int64 `[B]`."""
    missing = -waves_BS.shape[1] % SAMPLES_PER_ENCODER_FRAME
    padded_BS = torch.nn.functional.pad(waves_BS, (0, missing))
    power_BT = padded_BS.view(len(waves_BS), -1, SAMPLES_PER_ENCODER_FRAME).square().mean(-1)
    loud_BT = power_BT >= power_BT.amax(1, keepdim=True) * ONSET_BELOW_PEAK**2
    return loud_BT.int().argmax(1)


def _boundaries_ms(first_N: torch.Tensor, onset: int, lag_ms: int) -> list[int]:
    """When each token of a clip begins, the last one, the end, as the path says."""
    *starts, end = (POSITION_MS * first for first in first_N.tolist())
    return [max(start - lag_ms, onset * POSITION_MS) for start in starts] + [end]


def _words(
    transcript: Transcript, boundaries: Sequence[int], costs: Sequence[float], samples: int
) -> list[Word]:
    """The words of one clip, from when each of its tokens begins and how badly it fits there."""
    behind = list(accumulate(group.tokens for group in transcript.groups))
    words = []
    for text, number in transcript.words:
        first = behind[number] - transcript.groups[number].tokens
        start_s = boundaries[first] / 1000
        end_s = min(boundaries[behind[number]] / 1000, samples / SAMPLE_RATE_HZ)
        fits = fmean(costs[first : behind[number]]) <= MOST_COST
        words.append(Word(text, start_s, end_s, trusted=fits and start_s < end_s))
    return words
