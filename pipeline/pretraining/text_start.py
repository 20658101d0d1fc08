"""What a text encoder begins with: the weights and the tokenizer of a masked LM that is there."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from pipeline.models.encoders import load_masked_lm, weights_sha256
from pipeline.models.student import Student


@dataclass(frozen=True)
class TextStart:
    """A masked-LM encoder to go on from.

    Attributes:
        name: as the user wrote it.
        student: the encoder with its head, which a run trains in place.
        tokenizer: its own.
        encoder_sha256: digest of the encoder's weights as they were loaded, by which results and
            reports know an encoder.
        sha256: the same of the whole model, with its masked-LM head.
    """

    name: str
    student: Student
    tokenizer: PreTrainedTokenizerBase
    encoder_sha256: str
    sha256: str

    @classmethod
    def load(cls, name: str) -> "TextStart":
        """Load what a user named.

        Args:
            name: a run that has a text encoder, a Hugging Face folder, or a hub id.

        Raises:
            SpeechkdError: nothing of that name can be loaded, or it has no masked-LM head or no
                mask token.
        """
        pretrained, student, tokenizer = load_masked_lm(name)
        whole = weights_sha256(student.model)
        return cls(name, student, tokenizer, pretrained.weights_sha256, whole)
