"""Corpora of read speech: LibriTTS, Multilingual LibriSpeech, VCTK."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.foundation.tables import read_text
from pipeline.shards.layouts.layout import (
    Layout,
    Request,
    has_folders,
    split_folders,
    with_any_suffix,
)
from pipeline.shards.recordings import Entry
from pipeline.shards.refusals import Reason, Refusal
from pipeline.shards.timed import Notes

NORMALIZED = ".normalized.txt"
SECOND_MICROPHONE = "_mic2"


def _is_libritts_split(folder: Path) -> bool:
    return any(folder.glob(f"*/*/*{NORMALIZED}"))


def _is_libritts(source: Path) -> bool:
    return source.is_dir() and (
        _is_libritts_split(source) or any(source.glob(f"*/*/*/*{NORMALIZED}"))
    )


def _libritts(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:
    """SPEAKER/CHAPTER/ID.wav with ID.normalized.txt beside it (Zen et al. 2019)."""
    for folder in split_folders(request.source, request.split, _is_libritts_split):
        for path in sorted(folder.glob(f"*/*/*{NORMALIZED}")):
            key = path.name.removesuffix(NORMALIZED)
            notes.used.add(str(path.with_name(f"{key}.original.txt")))
            audio = with_any_suffix(path.parent, key, ".wav")
            speaker, chapter = path.parent.parent.name, path.parent.name
            yield Entry(key, audio, read_text(path), speaker, f"{speaker}_{chapter}", str(path))


def _is_mls_split(folder: Path) -> bool:
    return (folder / "transcripts.txt").is_file() and (folder / "audio").is_dir()


def _is_mls(source: Path) -> bool:
    return source.is_dir() and (
        _is_mls_split(source) or any(map(_is_mls_split, filter(Path.is_dir, source.iterdir())))
    )


def _mls(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:  # noqa: ARG001
    """transcripts.txt with lines `SPEAKER_BOOK_NUMBER<tab>text` (Pratap et al. 2020)."""
    for folder in split_folders(request.source, request.split, _is_mls_split):
        listing = folder / "transcripts.txt"
        for number, line in enumerate(read_text(listing).split("\n"), start=1):
            key, tab, text = line.strip().partition("\t")
            where, parts = f"{listing}, line {number}", key.split("_")
            if tab and len(parts) == 3:
                speaker, book, _ = parts
                audio = with_any_suffix(folder / "audio" / speaker / book, key, ".flac")
                yield Entry(key, audio, text, speaker, f"{speaker}_{book}", where)
            elif line.strip():
                fault = "MLS has SPEAKER_BOOK_NUMBER, a tab, and the text"
                yield Refusal(Reason.MALFORMED_ROW, fault, f"line {number}", where=where)


def _is_vctk(source: Path) -> bool:
    return source.is_dir() and has_folders(source, "txt") and bool(_vctk_audio(source))


def _vctk_audio(source: Path) -> list[Path]:
    return sorted(path for path in source.glob("wav48*") if path.is_dir())


def _vctk(request: Request, notes: Notes) -> Iterator[Entry | Refusal]:
    """txt/SPEAKER/ID.txt and wav48…/SPEAKER/ID_mic1.flac (Yamagishi et al. 2019).

    Of two microphones the first is taken, because both heard the same sentence.
    """
    notes.clear()
    audio = _vctk_audio(request.source)[-1]
    for path in sorted((request.source / "txt").glob("*/*.txt")):
        speaker, key = path.parent.name, path.stem
        clip = with_any_suffix(audio / speaker, f"{key}_mic1", ".flac")
        if not clip.is_file():
            clip = with_any_suffix(audio / speaker, key, ".wav")
        second = with_any_suffix(audio / speaker, f"{key}{SECOND_MICROPHONE}", ".flac")
        notes.others["recordings of the second microphone, left out"] += second.is_file()
        yield Entry(key, clip, read_text(path), speaker, key, str(path))


LIBRITTS = Layout("LibriTTS' layout (*.normalized.txt beside the audio)", _is_libritts, _libritts)
MLS = Layout("Multilingual LibriSpeech's layout (transcripts.txt, audio/)", _is_mls, _mls)
VCTK = Layout("VCTK's layout (txt/, wav48…/)", _is_vctk, _vctk)
