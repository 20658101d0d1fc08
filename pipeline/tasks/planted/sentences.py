"""Sentences that hold one bright and one flat word, spoken so on these words alone.

The two affects are in every sentence, so the mean over a sentence says nothing of either word. Only
what is heard while a word is said does. Text says nothing, as in `corpus`: each word stands in the
same sentences, in either place, beside one and the same other word.
"""

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.foundation.atomic import replaced, write_text
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import Meter
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.shards.manifest import file_sha256
from pipeline.tasks.planted.corpus import invent_words
from pipeline.tasks.planted.folder import AFFECTS, SPLIT_COLUMNS
from pipeline.tasks.planted.speech import VOICES, Accent, Synthesizer

PAIRS = (
    "we found the {} near one {}",
    "she saw the {} before every {}",
    "some {} arrived after the {}",
    "they like one {} more than any {}",
    "nobody took the {} or this {}",
    "he sold one {} and one {}",
    "every {} needs some {}",
    "my brother drew this {} beside that {}",
    "you can see the {} behind the {}",
    "put that {} under this {}",
    "first came one {} then another {}",
    "her {} is older than his {}",
)
"""Carriers whose words eSpeak NG says one by one, so that each has a time of its own."""
SHIFTS = {"pitch": (18, 7), "range": (15, 6), "rate_wpm": (22, 9), "volume": (25, 10)}
"""How far an affect moves each quality of a word's voice, and the jitter of that word."""
SENTENCE = {"pitch": (50, 14), "range": (50, 12), "rate_wpm": (170, 18), "volume": (100, 20)}
"""Middle and jitter of the sentence around it."""
BOUNDS = {"pitch": (0, 99), "range": (0, 99), "rate_wpm": (80, 450), "volume": (20, 200)}


@dataclass(frozen=True)
class Sentence:
    """One sentence with a bright and a flat word; voices are on eSpeak's own scales.

    Attributes:
        key: its name.
        text: the sentence.
        words: its two invented words, in their order.
        affects: +1 or −1 of each.
        voice: who says it.
        voiced: pitch, range, rate and volume of the sentence.
        accents: how the two words are said.
        half: 0 or 1: which half of the words both are of.
    """

    key: str
    text: str
    words: tuple[str, str]
    affects: tuple[int, int]
    voice: str
    voiced: dict[str, int]
    accents: tuple[Accent, Accent]
    half: int


def plant_pairs(
    words: int, carriers: Sequence[str], seed: int, *, voices: Sequence[str] = VOICES
) -> list[Sentence]:
    """Draw a corpus: in each carrier every bright word meets its flat one, in either order.

    Two words always meet each other alone, and are of one half (`word_halves`). If bright words met
    several flat ones, the texts would tell which words are of one kind; beside a labelled word a
    test word would be told by it, because its affect is always the other.

    Args:
        words: how many words, a quarter of them bright in each half; a multiple of four.
        carriers: sentences with two `{}`.
        seed: decides words, affects, halves, pairs, voices and jitter.
        voices: eSpeak's voices that speak.
    """
    affect_of, half_of = _drawn(words, seed), word_halves(words, seed)
    rng = np.random.default_rng([seed, 5])
    pairs: list[tuple[str, str]] = []
    for half in (0, 1):
        bright, flat = (
            [w for w in affect_of if (affect_of[w], half_of[w]) == (affect, half)]
            for affect in (1, -1)
        )
        pairs += zip(bright, (flat[i] for i in rng.permutation(len(flat)).tolist()), strict=True)
    sentences = []
    for number, carrier in enumerate(carriers):
        for turn in (0, 1):
            for place, pair in enumerate(pairs):
                spoken = pair if (place + turn) % 2 == 0 else pair[::-1]
                affects = (affect_of[spoken[0]], affect_of[spoken[1]])
                voice = voices[int(rng.integers(len(voices)))]
                key = f"s-{number:02d}-{turn}-{place:03d}"
                sentence = _sentence(key, carrier, spoken, affects, voice, rng)
                sentences.append(replace(sentence, half=half_of[pair[0]]))
    order = rng.permutation(len(sentences))
    return [sentences[i] for i in order.tolist()]


def _drawn(words: int, seed: int) -> dict[str, int]:
    """Invented words with an affect each, half of them bright."""
    affects = np.random.default_rng([seed, 2]).permutation(np.repeat([1, -1], words // 2))
    return dict(zip(invent_words(words, seed), affects.tolist(), strict=True))


def word_halves(words: int, seed: int) -> dict[str, int]:
    """Put each word into half 0 or 1, each with as many bright words as flat ones."""
    affect_of = _drawn(words, seed)
    rng = np.random.default_rng([seed, 3])
    half_of: dict[str, int] = {}
    for affect in AFFECTS:
        names = rng.permutation(sorted(w for w in affect_of if affect_of[w] == affect)).tolist()
        half_of |= {word: int(place >= len(names) // 2) for place, word in enumerate(names)}
    return half_of


def _sentence(
    key: str,
    carrier: str,
    words: tuple[str, str],
    affects: tuple[int, int],
    voice: str,
    rng: np.random.Generator,
) -> Sentence:
    text = carrier.format(*words)
    voiced = {
        name: _within(name, middle + rng.normal(0, jitter))
        for name, (middle, jitter) in SENTENCE.items()
    }
    first = text.index(words[0])
    places = (first, text.index(words[1], first + len(words[0])))
    accents = [
        Accent(
            place,
            **{
                name: _within(name, voiced[name] + affect * shift + rng.normal(0, jitter))
                for name, (shift, jitter) in SHIFTS.items()
            },
        )
        for place, affect in zip(places, affects, strict=True)
    ]
    return Sentence(key, text, words, affects, voice, voiced, (accents[0], accents[1]), half=0)


def _within(name: str, value: float) -> int:
    low, high = BOUNDS[name]
    return min(max(round(value), low), high)


def speak_sentence(
    synthesizer: Synthesizer, sentence: Sentence
) -> tuple["np.ndarray", list[dict[str, str | Seconds]]]:
    """Speak a sentence.

    Returns:
        Its wave, and its words with the times of eSpeak NG's own events; a word ends where the next
        one begins.

    Raises:
        SpeechkdError: eSpeak NG says two of the words as one.
    """
    wave_S, spoken = synthesizer.speak_words(
        sentence.text, voice=sentence.voice, accents=sentence.accents, **sentence.voiced
    )
    texts = sentence.text.split()
    if len(spoken) != len(texts):
        raise SpeechkdError(
            f"eSpeak NG says {len(spoken)} words of the {len(texts)} of {sentence.text!r}, so they "
            "have no times of their own. Take another carrier."
        )
    begins = [word.start_s for word in spoken]
    ends = [*begins[1:], len(wave_S) / SAMPLE_RATE_HZ]
    timed = zip(texts, begins, ends, strict=True)
    return wave_S, [{"text": text, "start_s": begin, "end_s": end} for text, begin, end in timed]


def jittered(
    words: Sequence[dict[str, str | Seconds]], jitter_s: Seconds, rng: np.random.Generator
) -> list[dict[str, str | Seconds]]:
    """The same words with wrong times: each border between two moves, and their order stays.

    Args:
        words: that end where the next one begins.
        jitter_s: standard deviation of how far a border moves.
        rng: decides how far.
    """
    begin, end = float(words[0]["start_s"]), float(words[-1]["end_s"])
    inner = np.array([float(word["start_s"]) for word in words[1:]])
    moved = np.sort(inner + rng.normal(0, jitter_s, len(inner)))
    borders = [begin, *moved.clip(begin, end).tolist(), end]
    return [
        {"text": word["text"], "start_s": borders[i], "end_s": borders[i + 1]}
        for i, word in enumerate(words)
    ]


def write_sentences(
    sentences: Sequence[Sentence], folder: Path, seed: int, *, jitter_s: Seconds | None = 0.0
) -> tuple[Path, Path]:
    """Speak a corpus into one tar, with its words and their times; a finished one stays.

    Args:
        sentences: from `plant_pairs`.
        folder: gets `shards/`, which `speechkd extract-teacher` takes, and `labels.csv`, with one
            line per invented word of a sentence.
        seed: decides how times jitter.
        jitter_s: how wrong the times are, see `jittered`; None to tell no times.

    Returns:
        The manifest and the table of labels.

    Raises:
        SpeechkdError: eSpeak NG is missing.
    """
    import soundfile

    shards, labels = folder / "shards", folder / "labels.csv"
    shards.mkdir(parents=True, exist_ok=True)
    manifest, tar = shards / "manifest.jsonl", shards / "sentences-000000.tar"
    write_text(labels, _labels(sentences))
    if manifest.exists():
        return manifest, labels
    synthesizer, rng = Synthesizer(), np.random.default_rng([seed, 6])
    with (
        replaced(tar) as path,
        tarfile.open(path, "w") as archive,
        Meter("speaking", len(sentences), "sentences") as meter,
    ):
        for sentence in sentences:
            wave_S, words = speak_sentence(synthesizer, sentence)
            wav = io.BytesIO()
            soundfile.write(
                wav, np.clip(wave_S, -1, 1), SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV"
            )
            record: dict[str, object] = {
                "text": sentence.text,
                "speaker": sentence.voice,
                "recording": sentence.key,
            }
            if jitter_s is not None:
                record["words"] = jittered(words, jitter_s, rng) if jitter_s else words
            for suffix, content in (("wav", wav.getvalue()), ("json", json.dumps(record).encode())):
                member = tarfile.TarInfo(f"{sentence.key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            meter.advance(1)
    line = {
        "url": tar.name,
        "samples": len(sentences),
        "bytes": tar.stat().st_size,
        "sha256": file_sha256(tar),
    }
    write_text(manifest, json.dumps(line) + "\n")
    return manifest, labels


def _labels(sentences: Sequence[Sentence]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["key", "text", "word", "place", "affect", *SPLIT_COLUMNS])
    for s in sentences:
        splits = ["train" if s.half == half else "test" for half in (0, 1)]
        for word, affect, accent in zip(s.words, s.affects, s.accents, strict=True):
            rows.writerow([s.key, s.text, word, accent.place, AFFECTS[affect], *splits])
    return text.getvalue()
