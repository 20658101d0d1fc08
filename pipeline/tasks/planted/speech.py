"""Speak sentences with eSpeak NG, for the demo's corpus and for tests: no network, no GPU.

The library comes with the pip package `espeakng-loader`, which has its voices, or from the system.
It is GPL software, loaded at run time and never part of this project.
"""

import ctypes
import ctypes.util
import os
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import Seconds

if TYPE_CHECKING:
    import numpy as np

VOICES = (
    "en-us",
    "en-us+Lee",
    "en-us+boris",
    "en-gb-x-rp+linda",
    "en-gb-x-rp+steph",
    "en-gb-x-rp+Andy",
    "en-gb-scotland+f1",
    "en-gb-scotland+adam",
    "en-gb-scotland+grandma",
    "en-029+travis",
)
"""Ten voices that differ clearly from one another in pitch, timbre or accent."""

LIMITS = {"pitch": (0, 99), "range": (0, 99), "rate_wpm": (80, 450), "volume": (0, 200)}

# speak_lib.h
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_BY_CHARACTER = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_LIST_TERMINATED, _WORD = 0, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)

_COMMAND = "\x01"
_LETTERS = {"pitch": "P", "range": "R", "rate_wpm": "S", "volume": "A"}
"""eSpeak NG's commands within a text: a control character, a number, a letter."""
_LONGEST_DATA_PATH = 120  # the library cuts a path off at 160 characters, without a word
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class SpokenWord:
    """A word of a spoken text, as eSpeak NG's own event tells it."""

    place: int
    """Of its first character in the text, from 0."""
    length: int
    """Its characters."""
    start_s: Seconds
    """When it begins in the wave."""


@dataclass(frozen=True)
class Accent:
    """How one word of a text is spoken, if not as the rest: all values as of `speak`."""

    place: int
    """Of its first character in the text, from 0."""
    pitch: int
    range: int
    rate_wpm: int
    volume: int


class Synthesizer:
    """Speaks sentences; equal arguments give equal samples, whatever was spoken in between.

    eSpeak NG keeps phases and random numbers between sentences, even through its own
    termination. So the library is loaded afresh for each sentence, which takes 5 ms.

    Raises:
        SpeechkdError: eSpeak NG is neither installed by pip nor on the system.
    """

    def __init__(self) -> None:
        library, data = _find()
        self._library = library
        self._data = data
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if data is not None and len(str(data)) > _LONGEST_DATA_PATH:
            self._folder = tempfile.TemporaryDirectory(prefix="espeak-")
            self._data = Path(self._folder.name) / "espeak-ng-data"
            self._data.symlink_to(data)

    def speak(
        self,
        text: str,
        *,
        voice: str = "en-us",
        pitch: int = 50,
        range: int = 50,
        rate_wpm: int = 175,
        volume: int = 100,
    ) -> "np.ndarray":
        """Speak `text`.

        Args:
            text: what to say.
            voice: an eSpeak NG voice such as "en-us", or with a variant "en-us+f3"; see `VOICES`.
            pitch: base pitch, 0 to 99.
            range: range of the pitch, 0 (monotone) to 99.
            rate_wpm: words per minute, 80 to 450.
            volume: loudness, 0 to 200; above 100 may be clipped.

        Returns:
            16 kHz mono float32 `[samples]`.

        Raises:
            SpeechkdError: the voice is unknown, a value is out of its bounds, or the text gives no
                sound.
        """
        return self.speak_words(
            text, voice=voice, pitch=pitch, range=range, rate_wpm=rate_wpm, volume=volume
        )[0]

    def speak_words(
        self,
        text: str,
        *,
        voice: str = "en-us",
        pitch: int = 50,
        range: int = 50,
        rate_wpm: int = 175,
        volume: int = 100,
        accents: Sequence[Accent] = (),
    ) -> "tuple[np.ndarray, list[SpokenWord]]":
        """Speak `text`, and tell when each word begins. Arguments and errors are those of `speak`.

        Some words that are always said together, such as "of the", are one word to eSpeak NG.

        Args:
            text: what to say.
            voice: as of `speak`.
            pitch: of what no accent covers; so are the next three.
            range: as of `speak`.
            rate_wpm: as of `speak`.
            volume: as of `speak`.
            accents: words that are spoken in another way.
        """
        import numpy as np

        from pipeline.shards.decoding import resample

        values = {"pitch": pitch, "range": range, "rate_wpm": rate_wpm, "volume": volume}
        for one in (values, *({name: getattr(a, name) for name in LIMITS} for a in accents)):
            for name, value in one.items():
                low, high = LIMITS[name]
                if not low <= value <= high:
                    raise SpeechkdError(f"{name} is {value}; eSpeak NG takes {low} to {high}.")
        if "\0" in text or _COMMAND in text:
            raise SpeechkdError(
                f"{text!r} cannot be spoken: it has a NUL or a control character; remove it."
            )
        marked, origin = _marked(text, accents, values)
        with _one_at_a_time:
            wave, rate, words = self._synthesize(marked.encode(), voice, values)
        words = [_unmarked(word, text, marked, origin) for word in words]
        if not wave.any():
            raise SpeechkdError(f"{text!r} gives no sound; give a text with words in it.")
        return resample(wave.astype(np.float32) / 32_768, rate), words

    def _synthesize(
        self, text: bytes, voice: str, values: dict[str, int]
    ) -> tuple["np.ndarray", int, list[SpokenWord]]:
        import numpy as np

        chunks = [np.zeros(0, np.int16)]
        words: list[SpokenWord] = []

        def receive(wave: Any, samples: int, events: Any) -> int:
            if wave and samples > 0:
                chunks.append(np.ctypeslib.as_array(wave, (samples,)).copy())
            for event in takewhile(lambda one: one.type != _LIST_TERMINATED, events or ()):
                if event.type == _WORD:  # text is counted from 1, audio in milliseconds
                    start_s = event.audio_position / 1000
                    words.append(SpokenWord(event.text_position - 1, event.length, start_s))
            return 0

        callback = _CALLBACK(receive)
        library = ctypes.CDLL(self._library)
        try:
            data = None if self._data is None else os.fsencode(self._data)
            rate: int = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
            if rate <= 0:
                raise SpeechkdError(
                    f"eSpeak NG ({self._library}) cannot start with its data in {self._data}; "
                    "install it again: pip install --force-reinstall espeakng-loader"
                )
            _seed(library)
            library.espeak_SetSynthCallback(callback)
            # the library ignores a variant that does not exist, without a word
            unknown = not _has_variant(library, voice)
            if unknown or library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise SpeechkdError(
                    f"eSpeak NG has no voice {voice!r}; take one of {', '.join(VOICES)}."
                )
            for parameter, name in (
                (_RATE, "rate_wpm"),
                (_VOLUME, "volume"),
                (_PITCH, "pitch"),
                (_RANGE, "range"),
            ):
                library.espeak_SetParameter(parameter, values[name], 0)
            size = ctypes.c_size_t(len(text) + 1)
            library.espeak_Synth(text, size, 0, _BY_CHARACTER, 0, _CHARS_UTF8, None, None)
            library.espeak_Terminate()
        finally:
            _unload(library)
        return np.concatenate(chunks), rate, words


def _marked(
    text: str, accents: Sequence[Accent], values: Mapping[str, int]
) -> tuple[str, list[int]]:
    """The text with a command before each word whose way of speaking differs from the last one's.

    Returns:
        The marked text, and for each of its characters the place in the text: for a command that of
        the word after it.
    """
    by_place = {accent.place: accent for accent in accents}
    marked: list[str] = []
    origin: list[int] = []
    spoken: Mapping[str, int] = values
    for word in re.finditer(r"\S+|\s+", text):
        place = word.start()
        if not word[0].isspace():
            accent = by_place.get(place)
            wanted = {name: getattr(accent, name) for name in LIMITS} if accent else values
            if wanted != spoken:
                spoken = wanted
                command = "".join(f"{_COMMAND}{wanted[name]}{_LETTERS[name]}" for name in LIMITS)
                marked.append(command)
                origin.extend([place] * len(command))
        marked.append(word[0])
        origin.extend(range(place, word.end()))
    return "".join(marked), origin


def _unmarked(word: SpokenWord, text: str, marked: str, origin: Sequence[int]) -> SpokenWord:
    """A word by its place in the text without commands; one with a command reaches to a space."""
    place = origin[min(word.place, len(origin) - 1)]
    if not marked.startswith(_COMMAND, word.place):
        return SpokenWord(place, word.length, word.start_s)
    return SpokenWord(place, len(text[place:].split(maxsplit=1)[0]), word.start_s)


def _find() -> tuple[str, Path | None]:
    """The library, and its data folder if that is not the system's."""
    try:
        import espeakng_loader
    except ImportError:
        library = ctypes.util.find_library("espeak-ng")
        if library is None:
            raise SpeechkdError(
                "eSpeak NG is not installed; `pip install espeakng-loader` brings it, or your "
                "system's package libespeak-ng1."
            ) from None
        return library, None
    return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())


def _has_variant(library: ctypes.CDLL, voice: str) -> bool:
    """Whether the part of `voice` after its plus sign names a file of the library's data."""
    _, plus, variant = voice.partition("+")
    data = ctypes.c_char_p()
    library.espeak_Info.restype = ctypes.c_char_p
    library.espeak_Info(ctypes.byref(data))
    folder = Path(os.fsdecode(data.value or b"")) / "voices" / "!v"
    return not plus or (variant == Path(variant).name and (folder / variant).is_file())


def _seed(library: ctypes.CDLL) -> None:
    """Restart the random numbers of breathy voices; eSpeak NG up to 1.51 uses the C library's."""
    if hasattr(library, "espeak_ng_SetRandSeed"):
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    else:
        ctypes.CDLL(None).srand(1)


def _unload(library: ctypes.CDLL) -> None:
    ctypes.CDLL(None).dlclose(ctypes.c_void_p(library._handle))
