"""A transcript → the tokens that Whisper's decoder reads, and the words that they spell.

Source: openai-whisper, `tokenizer.py` (what stands before a transcript, how tokens are grouped into
words) and `timing.py` (which punctuation joins which word).
"""

import string
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.foundation.errors import (
    Damaged,
    NotThere,
    SpeechkdError,
    first_line,
    unless_of_memory,
)
from pipeline.foundation.progress import counted
from pipeline.models.texts import composed
from pipeline.shards.refusals import Reason, RefusedError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END, NO_TIMES, TRANSCRIBE = (
    *("<|startoftranscript|>", "<|endoftext|>"),
    *("<|notimestamps|>", "<|transcribe|>"),
)
WITHOUT_BLANKS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages that put no blanks between words; there every character is one."""
JOINS_NEXT = "\"'“¿([{-"
JOINS_LAST = "\"'.。,，!！?？:：”)]}、"
SPOKEN_SIGNS = "&%@#"


@dataclass(frozen=True)
class Group:
    """Tokens that are aligned together, and where their characters stand in the text."""

    start: int
    end: int
    tokens: int


@dataclass(frozen=True)
class Transcript:
    """What the decoder reads of a clip."""

    tokens: list[int]
    """Prompt, text and the end."""
    prompt: int
    """Tokens of the prompt. The text's first token is predicted by the last of them."""
    groups: list[Group]
    """The text's tokens in order; together they are all tokens of the text."""
    words: list[tuple[str, int]]
    """Each word as it is written, and the group whose time it has."""


class TranscriptReader:
    """Turns texts into transcripts for one model and one language.

    Args:
        tokenizer: the model's own.
        multilingual: whether the model was trained on several languages, so that its prompt names
            one.
        language: Whisper's code for it, such as `en`.
        max_tokens: tokens that the decoder can read.
        name: the teacher's, for messages.

    Raises:
        SpeechkdError: the tokenizer lacks a token of the prompt, or the model the language.
    """

    def __init__(
        self, tokenizer: "Tokenizer", multilingual: bool, language: str, max_tokens: int, name: str
    ) -> None:
        if not multilingual and language != "en":
            raise SpeechkdError(
                f"--language {language}: {name} knows English only. Take a teacher of several "
                "languages, such as openai/whisper-small, or --language en."
            )
        before = [START, f"<|{language}|>", TRANSCRIBE] if multilingual else [START]
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in (*before, NO_TIMES, END) if token not in vocabulary]
        if missing:
            raise SpeechkdError(
                f"{name}: its tokenizer has no {missing[0]}, so its decoder cannot tell word "
                "times. --language takes Whisper's code of a language, such as en, de or zh."
            )
        self.language, self.max_tokens = language, max_tokens
        self._tokenizer = tokenizer
        self._prompt = [vocabulary[token] for token in (*before, NO_TIMES)]
        self._end = vocabulary[END]
        self._bytes = _byte_of_character()

    @property
    def largest_token(self) -> int:
        """The largest token that a transcript may hold; those of a text are below the end's."""
        return max(*self._prompt, self._end)

    def read(self, text: str) -> Transcript:
        """Tokens and words of a text.

        The text is composed (`pipeline.models.texts`). One of capitals only is read in small
        letters, because Whisper never wrote such texts; its words stay as they are written.

        Raises:
            RefusedError: the text has no word, has too many tokens for the decoder, or holds a
                token of the prompt.
        """
        written = composed(" ".join(text.split()))
        if not is_spoken(written):
            raise RefusedError(Reason.NO_WORD, f"the text is {written[:40]!r}")
        blank = "" if self.language in WITHOUT_BLANKS else " "
        tokens = self._tokenizer.encode(blank + _uncapitalised(written), add_special_tokens=False)
        if max(tokens.ids) >= self._end:
            special = tokens.tokens[tokens.ids.index(max(tokens.ids))]
            raise RefusedError(Reason.UNUSABLE_TEXT, f"it holds {special}, a mark of the decoder's")
        whole = [*self._prompt, *tokens.ids, self._end]
        if len(whole) > self.max_tokens:
            raise RefusedError(
                Reason.UNUSABLE_WORDS,
                f"the text has {counted(len(tokens.ids), 'token')}; the teacher's decoder reads "
                "at most "
                f"{self.max_tokens - len(self._prompt) - 1}",
            )
        pieces = list(self._pieces(tokens.tokens, blank + written))
        if self.language not in WITHOUT_BLANKS:
            pieces = _join_to_words(pieces, blank + written)
        return Transcript(whole, len(self._prompt), pieces, _words(pieces, blank + written))

    def _pieces(self, tokens: Sequence[str], text: str) -> Iterator[Group]:
        """The smallest runs of tokens that are whole characters."""
        content, count, place = b"", 0, 0
        for token in tokens:
            content += bytes(self._bytes[character] for character in token)
            count += 1
            try:
                characters = len(content.decode())
            except UnicodeDecodeError:
                continue
            yield Group(place, place + characters, count)
            content, count, place = b"", 0, place + characters
        if content or place != len(text):
            raise ValueError(f"the tokenizer does not give back {text!r}")


def read_tokenizer(folder: Path) -> "Tokenizer":
    """A model's tokenizer, from `tokenizer.json`, or else from `vocab.json` and `merges.txt`.

    Raises:
        NotThere: the folder has neither.
        Damaged: they cannot be read.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    whole = folder / "tokenizer.json"
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            bpe = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
            tokenizer = Tokenizer(bpe)
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            special = [t for t in tokenizer.get_vocab() if t.startswith("<|") and t.endswith("|>")]
            tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special])
            return tokenizer
    except Exception as error:  # the library raises bare Exception
        unless_of_memory(error)
        raise Damaged(
            f"{folder}: its tokenizer cannot be read ({first_line(error)[:200]}); fetch it again."
        ) from None
    raise NotThere(
        f"{folder} has no tokenizer.json, and no vocab.json with merges.txt, so the teacher cannot "
        "read transcripts and tell word times. Copy the model's there, or give word times in the "
        "tars' .json."
    )


def is_spoken(text: str) -> bool:
    """Whether a text holds anything to say: a letter or its mark, a digit, a symbol, & % @ or #."""
    return any(unicodedata.category(c)[0] in "LMNS" or c in SPOKEN_SIGNS for c in text)


def _uncapitalised(text: str) -> str:
    """Small letters if there are only capitals and at least two, and no character is lost."""
    small = text.lower()
    capitals = sum(character.isupper() for character in text)
    return small if text.isupper() and capitals > 1 and len(small) == len(text) else text


def _join_to_words(pieces: Sequence[Group], text: str) -> list[Group]:
    """Begin a group at each blank and at each punctuation mark that is a piece of its own."""
    groups: list[Group] = []
    for piece in pieces:
        characters = text[piece.start : piece.end]
        begins = characters.startswith(" ") or characters.strip() in string.punctuation
        if begins or not groups:
            groups.append(piece)
        else:
            last = groups[-1]
            groups[-1] = Group(last.start, piece.end, last.tokens + piece.tokens)
    return groups


def _words(groups: Sequence[Group], text: str) -> list[tuple[str, int]]:
    """Join punctuation to its neighbours, and leave out what nobody says.

    The time of a word is that of its own group, so a pause at a comma is no part of it.
    """
    names = [text[group.start : group.end] for group in groups]
    following = len(names) - 1
    for place in range(len(names) - 2, -1, -1):
        if names[place].startswith(" ") and names[place].strip() in JOINS_NEXT:
            names[following] = names[place] + names[following]
            names[place] = ""
        else:
            following = place
    previous = 0
    for place in range(1, len(names)):
        if not names[previous].endswith(" ") and names[place] in JOINS_LAST:
            names[previous] += names[place]
            names[place] = ""
        else:
            previous = place
    return [(name.strip(), place) for place, name in enumerate(names) if is_spoken(name)]


def _byte_of_character() -> dict[str, int]:
    """GPT-2's byte-level alphabet: the printable bytes are themselves, the others follow 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }
