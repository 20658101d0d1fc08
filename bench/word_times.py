"""Word times that a teacher tells, against eSpeak NG's own word events, and what they cost.

    python bench/word_times.py --teacher offline:tiny.en     # 200 sentences
    python bench/word_times.py --teacher offline:base
    python bench/word_times.py --silence 1.2                 # silence before and after each
    python bench/word_times.py --wrong-texts                 # what the cost tells of a text
    python bench/word_times.py --rate --clips 32             # against the mean vector

Sentences of 4 to 20 words are made of the carriers of the planted corpus, and spoken by its ten
voices at 130 to 210 words per minute. The lag that it prints is what --lag-ms of extract-teacher
takes; take it from one --seed and judge it by another.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import soundfile
import torch
import webdataset

from pipeline.extraction.teacher import Teacher, load_teacher
from pipeline.extraction.word_times import MOST_COST, WordAligner, aligner_or_why_not
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.foundation.units import CLIP_SAMPLES, SAMPLE_RATE_HZ, Seconds
from pipeline.shards.manifest import Shard, file_sha256, write_manifest
from pipeline.shards.words import Word
from pipeline.tasks.planted.corpus import CARRIERS
from pipeline.tasks.planted.speech import VOICES, SpokenWord, Synthesizer

NOUNS = (
    *("train", "garden", "letter", "window", "doctor", "river", "candle", "hammer", "market"),
    *("painter", "basket", "engine", "lemon", "captain", "ladder", "blanket", "mountain"),
    *("teacher", "bottle", "island"),
)
JOINS = (", and ", ", but ", " because ", " and ", ", so ")
BATCH = 4


@dataclass(frozen=True)
class Sentence:
    """A spoken sentence and when its words begin."""

    text: str
    wave_S: np.ndarray
    words: list[SpokenWord]


@dataclass(frozen=True)
class Accuracy:
    """How far word starts are from the truth; those of first words among them."""

    words: int
    median_ms: float
    within_100_ms: float
    within_200_ms: float
    lag_ms: float
    """Median of the signed errors."""
    untrusted: float


def sentences(count: int, seed: int, silence_s: Seconds = 0.0) -> list[Sentence]:
    """Speak `count` sentences of 4 to 20 words; with up to `silence_s` of faint noise around."""
    rng = np.random.default_rng([seed, 17])
    synthesizer = Synthesizer()
    spoken = []
    for number in range(count):
        text, wanted = "", 4 + number % 17
        while len(text.split()) < wanted:
            carrier = CARRIERS[rng.integers(len(CARRIERS))].format(NOUNS[rng.integers(len(NOUNS))])
            text += (JOINS[rng.integers(len(JOINS))] if text else "") + carrier
        text = " ".join(text.split()[:wanted]).rstrip(",")
        wave_S, words = synthesizer.speak_words(
            text,
            voice=VOICES[rng.integers(len(VOICES))],
            pitch=int(rng.integers(30, 70)),
            rate_wpm=int(rng.integers(130, 210)),
        )
        if silence_s:
            before, after = (rng.uniform(0.2, silence_s, 2) * SAMPLE_RATE_HZ).astype(int).tolist()
            wave_S = np.pad(wave_S, (before, after))
            wave_S = (wave_S + 1e-3 * rng.standard_normal(len(wave_S))).astype(np.float32)
            shift = before / SAMPLE_RATE_HZ
            words = [SpokenWord(w.place, w.length, w.start_s + shift) for w in words]
        spoken.append(Sentence(text, wave_S, words))
    return spoken


def aligned(
    teacher: Teacher,
    aligner: WordAligner,
    clips: Sequence[Sentence],
    texts: Mapping[str, Sequence[str]],
) -> dict[str, list[list[Word]]]:
    """The words of each clip, as the teacher tells them of each kind of text."""
    told: dict[str, list[list[Word]]] = {kind: [] for kind in texts}
    for first in range(0, len(clips), BATCH):
        batch = clips[first : first + BATCH]
        lengths_B = torch.tensor([len(clip.wave_S) for clip in batch])
        waves_BS = torch.zeros(len(batch), int(lengths_B.max()))
        for row_S, clip in zip(waves_BS, batch, strict=True):
            row_S[: len(clip.wave_S)] = torch.from_numpy(clip.wave_S)
        hidden_BTE = teacher.states(waves_BS, teacher.encoder.shape.max_source_positions)
        for kind, of_clips in texts.items():
            transcripts = [aligner.read(text) for text in of_clips[first : first + BATCH]]
            told[kind] += aligner.align(hidden_BTE, transcripts, waves_BS, lengths_B)
    return told


def starts_beside(clip: Sentence, words: Sequence[Word]) -> Iterator[tuple[Seconds, Seconds]]:
    """Told and true start of each word that eSpeak NG has an event of."""
    start_at: dict[int, Seconds] = {}
    place = 0
    for word in words:
        place = clip.text.index(word.text, place)
        start_at[place] = word.start_s
        place += len(word.text)
    for event in clip.words:
        if event.place in start_at:
            yield start_at[event.place], event.start_s


def accuracy(teacher: Teacher, aligner: WordAligner, clips: Sequence[Sentence]) -> Accuracy:
    """Judge the starts of all words, trusted or not."""
    texts = {"right": [clip.text for clip in clips]}
    told = aligned(teacher, aligner, clips, texts)["right"]
    pairs = [p for clip, words in zip(clips, told, strict=True) for p in starts_beside(clip, words)]
    error_W = 1000 * np.array([one - true for one, true in pairs])
    trusted = [word.trusted for words in told for word in words]
    return Accuracy(
        words=len(pairs),
        median_ms=float(np.median(np.abs(error_W))),
        within_100_ms=float(np.mean(np.abs(error_W) <= 100)),
        within_200_ms=float(np.mean(np.abs(error_W) <= 200)),
        lag_ms=float(np.median(error_W)),
        untrusted=1 - float(np.mean(trusted)),
    )


def wrong_texts(
    teacher: Teacher, aligner: WordAligner, clips: Sequence[Sentence], seed: int
) -> dict[str, dict[str, float]]:
    """How many words are not trusted, and how many clips are refused, if a text is not right."""
    rng = np.random.default_rng([seed, 18])

    def changed(text: str, change: str) -> str:
        words = text.split()
        place = int(rng.integers(1, len(words) - 1))
        noun = NOUNS[rng.integers(len(NOUNS))]
        match change:
            case "replaced":
                words[place] = noun
            case "added":
                words.insert(place, noun)
            case "dropped":
                del words[place]
        return " ".join(words)

    texts = {
        "right": [clip.text for clip in clips],
        **{
            f"one word {change}": [changed(clip.text, change) for clip in clips]
            for change in ("replaced", "added", "dropped")
        },
        "another clip's": [clips[(i + 7) % len(clips)].text for i in range(len(clips))],
    }
    shares = {}
    for name, times in aligned(teacher, aligner, clips, texts).items():
        trusted = [[word.trusted for word in words] for words in times]
        shares[name] = {
            "words": float(sum(map(len, trusted))),
            "untrusted": 1 - float(np.mean([one for words in trusted for one in words])),
            "refused": float(np.mean([2 * sum(words) < len(words) for words in trusted])),
        }
    return shares


def spoken_corpus(folder: Path, clips: int) -> Path:
    """One tar of clips of 10 to 15 s: a few different ones, again and again under other keys."""
    queue = sentences(60, seed=3)
    members = []
    for _ in range(min(clips, 8)):
        parts, samples = [], 0
        while samples + len(queue[0].wave_S) <= CLIP_SAMPLES:
            samples += len(queue[0].wave_S)
            parts.append(queue.pop(0))
            queue.append(parts[-1])
        buffer = BytesIO()
        wave_S = np.concatenate([part.wave_S for part in parts])
        soundfile.write(buffer, wave_S, SAMPLE_RATE_HZ, format="FLAC")
        text = json.dumps({"text": ". ".join(part.text for part in parts)})
        members.append({"flac": buffer.getvalue(), "json": text.encode()})
    path = folder / "spoken.tar"
    with webdataset.TarWriter(str(path)) as tar:
        for number in range(clips):
            tar.write({"__key__": f"clip{number:05d}", **members[number % len(members)]})
    line = Shard(path.name, clips, path.stat().st_size, file_sha256(path))
    write_manifest(folder / "manifest.jsonl", [line])
    return folder / "manifest.jsonl"


def rates(teacher: str, clips: int, rounds: int) -> dict[str, float]:
    """Clips per second of processor time of the whole command, loading included, in turns.

    Processor time, because other load on a machine moves the wall clock more than the decoder does.
    """
    from pipeline.extraction.settings import ExtractSettings
    from stages.extract_teacher import run

    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        manifest = spoken_corpus(Path(name), clips)
        for number in range(rounds):
            for keep in ("vector", "words"):
                settings = ExtractSettings(
                    manifest=str(manifest),
                    cache=f"{name}/{keep}{number}",
                    teacher=teacher,
                    keep=keep,
                    max_refused=1.0,
                    devices="cpu",
                    workers=0,
                )
                start = time.process_time()
                with redirect_stdout(StringIO()):
                    run(settings)
                rate = clips / (time.process_time() - start)
                best[keep] = max(best.get(keep, 0.0), rate)
    return {**best, "words of vector": best["words"] / best["vector"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="offline:tiny.en")
    parser.add_argument("--language", default="en")
    parser.add_argument("--lag-ms", type=int, help="by default what extract-teacher takes")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--silence", type=float, default=0.0, help="seconds, at most, at each end")
    parser.add_argument("--wrong-texts", action="store_true")
    parser.add_argument("--rate", action="store_true")
    parser.add_argument("--clips", type=int, default=32, help="of --rate")
    parser.add_argument("--rounds", type=int, default=3, help="of --rate; the best one counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, object]
    if options.rate:
        figures = dict(rates(options.teacher, options.clips, options.rounds))
    else:
        teacher = load_teacher(options.teacher, pooling="length")
        aligner = aligner_or_why_not(options.teacher, options.language, options.lag_ms, teacher)
        if isinstance(aligner, SpeechkdError):
            raise aligner
        clips = sentences(options.sentences, options.seed, options.silence)
        if options.wrong_texts:
            figures = {"most cost": MOST_COST, **wrong_texts(teacher, aligner, clips, options.seed)}
        else:
            figures = asdict(accuracy(teacher, aligner, clips))
    print(json.dumps(figures, indent=1))
    if options.out:
        settings = {**vars(options), "out": str(options.out)}
        record = {"settings": settings, "hardware": hardware(), "commit": git_commit()}
        options.out.write_text(json.dumps({**record, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
