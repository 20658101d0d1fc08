"""When each word of a clip is said, as the teacher itself tells it.

Whisper's decoder reads the transcript. Some heads of its cross-attention follow the audio, and
dynamic time warping turns where they look into a start and an end of each word.

Shapes: B clips, L tokens, T encoder positions (20 ms each), E width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pipeline.extraction.alignment import Path, attention_to_costs, cheapest_path
from pipeline.extraction.decoder import AlignmentDecoder
from pipeline.extraction.decoder_weights import read_decoder
from pipeline.extraction.teacher import Teacher
from pipeline.extraction.transcripts import Transcript, TranscriptReader
from pipeline.extraction.weights import tensors_sha256
from pipeline.foundation.devices import ieee_float32
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError, Unreachable
from pipeline.foundation.units import SAMPLE_RATE_HZ, SAMPLES_PER_ENCODER_FRAME
from pipeline.shards.words import Word

POSITION_SECONDS = SAMPLES_PER_ENCODER_FRAME / SAMPLE_RATE_HZ
MOST_SCORES = 2**26
"""Values of one batch of attention scores; a batch of more is divided."""


@dataclass(frozen=True)
class WordAligner:
    """Transcripts and encoder states → words with their times. Built by `load_aligner`."""

    reader: TranscriptReader
    decoder: AlignmentDecoder
    sha256: str
    """Digest of the decoder's tensors."""

    def read(self, text: str) -> Transcript:
        """Tokens and words of a text.

        Raises:
            RefusedError: the text has no word, or is not for this decoder.
        """
        return self.reader.read(text)

    @torch.inference_mode()
    @ieee_float32()
    def align(
        self, hidden_BTE: torch.Tensor, transcripts: Sequence[Transcript], lengths_B: torch.Tensor
    ) -> list[list[Word]]:
        """Find the words of a batch of clips. A clip's words do not depend on the others.

        Args:
            hidden_BTE: last hidden states of all positions that the encoder saw.
            transcripts: one per clip.
            lengths_B: samples of each clip.

        Returns:
            Per clip its words, in order.
        """
        positions_B = (lengths_B + SAMPLES_PER_ENCODER_FRAME - 1) // SAMPLES_PER_ENCODER_FRAME
        positions_B = positions_B.clamp(1, hidden_BTE.shape[1])
        words: list[list[Word]] = [[] for _ in transcripts]
        for part in self._parts(transcripts, hidden_BTE.shape[1]):
            chosen = torch.tensor(part)
            path = self._path(
                hidden_BTE if len(part) == len(words) else hidden_BTE[chosen.to(hidden_BTE.device)],
                [transcripts[i] for i in part],
                positions_B[chosen],
            )
            for place, i in enumerate(part):
                duration_s = int(lengths_B[i]) / SAMPLE_RATE_HZ
                words[i] = _words(transcripts[i], path, place, duration_s)
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
    ) -> Path:
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
        return Path(path.first_BN.cpu(), path.last_BN.cpu(), path.cost_BN.cpu())


def aligner_or_why_not(name: str, language: str, teacher: Teacher) -> WordAligner | SpeechkdError:
    """What tells the word times of a teacher, or the reason why it cannot, as an error to raise.

    A teacher needs to tell none where every sample's .json does, so it may lack what that takes.
    """
    try:
        return load_aligner(name, language, teacher.d_model, teacher.device, teacher.precision)
    except (NotThere, Unreachable) as error:
        return error


def load_aligner(
    name: str, language: str, d_model: int, device: torch.device, precision: str
) -> WordAligner:
    """Load the decoder of a teacher, as far as word times need it.

    Args:
        name: as for `load_teacher`.
        language: Whisper's code of the language that is spoken, such as `en`.
        d_model: width of the encoder.
        device: where to compute.
        precision: torch's name of the decoder's precision.

    Raises:
        SpeechkdError: it has no decoder, alignment heads, tokenizer or such language.
    """
    files = read_decoder(name)
    if files.shape.d_model != d_model:
        raise Damaged(
            f"--teacher {name}: its decoder is {files.shape.d_model} wide, its encoder {d_model}."
        )
    reader = files.reader(language, name)
    decoder = files.decoder().to(device, getattr(torch, precision))
    return WordAligner(reader, decoder, tensors_sha256(files.tensors))


def _words(transcript: Transcript, path: Path, place: int, duration_s: float) -> list[Word]:
    """The words of one clip, from the rows of its tokens."""
    first = 0
    rows = []
    for group in transcript.groups:
        rows.append((first, first + group.tokens))
        first += group.tokens
    words = []
    for text, group_number in transcript.words:
        begin, end = rows[group_number]
        start_s = int(path.first_BN[place, begin]) * POSITION_SECONDS
        # the row of the next token begins where this word ends; after the text comes the end's row
        end_s = min(int(path.first_BN[place, end]) * POSITION_SECONDS, duration_s)
        words.append(Word(text, start_s, end_s, trusted=start_s < end_s))
    return words
