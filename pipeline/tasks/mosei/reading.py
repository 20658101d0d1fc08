"""Read CMU-MOSEI from whatever file or folder a user has."""

from collections import Counter
from pathlib import Path

from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.tasks.mosei.clips import MoseiClip, MoseiClips, check_splits, tidy, with_folds
from pipeline.tasks.mosei.csd import read_labels, read_words
from pipeline.tasks.mosei.pickles import read_pickled
from pipeline.tasks.mosei.tables import SUFFIXES, read_folds, read_table
from pipeline.tasks.mosei.transcripts import (
    Texts,
    Transcript,
    cut_words,
    find_row,
    read_transcript,
    timed_rows,
    transcript_folder,
    with_texts,
)


def read_mosei(
    path: Path,
    *,
    text: Path | None = None,
    folds: Path | None = None,
    allow_pickle: bool = False,
    own_split: bool = True,
    scale: tuple[float, float] | None = None,
) -> MoseiClips:
    """Read CMU-MOSEI.

    Args:
        path: a table (MMSA's `label.csv`, or tidy), a label `.csd`, an MMSA or MulT pickle, or a
            folder that holds such files under their own names.
        text: source of the texts, for labels that have none. The default for a `.csd` is the words
            or transcripts beside it.
        folds: a list of which video is in which split, in place of the file's own. The default for
            a `.csd` is the SDK's `cmu_mosei_std_folds.py` beside it.
        allow_pickle: accept pickles; they are read as data only.
        own_split: the file's own split will be used, so it must be sound.
        scale: that of the sentiment labels, which is mapped onto -3 to 3; None if it is that.

    Raises:
        SpeechkdError: nothing at that path can be read (the message says what is there and what
            is wanted), or the split is unsound.
    """
    if path.is_dir():
        path = _in_folder(path)
    kind = path.suffix.lower()
    notes: Counter[str] = Counter()
    if kind in SUFFIXES:
        corpus = read_table(path, scale)
    elif kind == ".csd":
        source = text or _texts_beside(path)
        folds = folds or _beside(path, "*std_folds.py")
        clips = _with_texts(read_labels(path, notes), source, notes)
        corpus = tidy(clips, str(path), notes, scale)
    elif kind in (".pkl", ".pickle"):
        if not allow_pickle:
            raise SpeechkdError(
                f"{path} is a pickle, which can hold more than data. Add --allow-pickle to read it "
                "as arrays and plain types only, anything else refused."
            )
        texts = open_texts(text, notes) if text else None
        corpus = tidy(read_pickled(path, texts, notes), str(path), notes, scale)
    elif not path.exists():
        raise NotThere(f"{path}: there is no such file or folder.")
    else:
        raise SpeechkdError(
            f"{path}: CMU-MOSEI is read from {', '.join(SUFFIXES)}, .csd, .pkl or a folder of "
            "those; see docs/finetuning.md."
        )
    if folds:
        return with_folds(corpus, read_folds(folds), str(folds))
    if own_split:
        check_splits(corpus.clips, corpus.source)
    return corpus


def open_texts(path: Path, notes: Counter[str]) -> Texts:
    """Open a source of texts.

    Args:
        path: `CMU_MOSEI_TimestampedWords.csd`, the folder of raw transcripts (or one of the
            folders above it), or a table with texts and times.
        notes: counts repairs.

    Raises:
        SpeechkdError: the path is none of these.
    """
    if path.suffix.lower() == ".csd":
        words = read_words(path, notes)
        return Texts(words.get, cut_words, str(path))
    if path.suffix.lower() in SUFFIXES:
        rows = timed_rows(read_table(path).clips)
        if not rows:
            raise SpeechkdError(f"{path} has no start and end times (columns start_s, end_s).")
        return Texts(rows.get, find_row, str(path))
    folder = transcript_folder(path)
    if folder is None:
        raise SpeechkdError(
            f"{path} is no source of texts. Name CMU_MOSEI_TimestampedWords.csd, the folder with "
            "one <video>.txt per video (Raw/Transcript/Segmented/Combined), or a table with text, "
            "start_s and end_s."
        )
    files = {file.stem: file for file in folder.glob("*.txt")}

    def read(video: str) -> Transcript | None:
        return read_transcript(files[video], notes) if video in files else None

    return Texts(read, find_row, str(folder))


def _with_texts(segments: list[MoseiClip], source: Path, notes: Counter[str]) -> list[MoseiClip]:
    texts = open_texts(source, notes)
    clips = with_texts(segments, texts, notes)
    if not clips:
        raise SpeechkdError(
            f"{source} has a text for none of the {len(segments)} labelled segments; is it of the "
            "same corpus?"
        )
    return clips


def _in_folder(folder: Path) -> Path:
    for pattern in ("*[Ll]abels.csd", "*label.csv", "*.csd"):
        matches = sorted(folder.glob(pattern))
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(path.name for path in matches)
            raise SpeechkdError(f"{folder} holds {names}; name the one with the labels.")
    inside = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise SpeechkdError(
        f"{folder} holds neither CMU_MOSEI_Labels.csd nor a label.csv (there is {inside}); name "
        "the file."
    )


def _texts_beside(labels: Path) -> Path:
    words = _beside(labels, "*Words.csd")
    if words:
        return words
    folder = transcript_folder(labels.parent)
    if folder:
        return folder
    raise SpeechkdError(
        f"{labels} holds labels without text, and neither CMU_MOSEI_TimestampedWords.csd nor "
        "Raw/Transcript/Segmented/Combined is beside it; name one with --text."
    )


def _beside(path: Path, pattern: str) -> Path | None:
    return next(iter(sorted(path.parent.glob(pattern))), None)
