"""JSON of openai-whisper, faster-whisper, WhisperX, whisper-timestamped and whisper.cpp."""

from collections.abc import Iterator
from typing import Any

from pipeline.foundation.units import Seconds
from pipeline.foundation.untrusted import parse_json
from pipeline.shards.transcripts.numbers import seconds
from pipeline.shards.transcripts.segment import Segment, TimedWord, Transcript


def parse(transcript: Transcript) -> Iterator[Segment] | None:
    """The segments of Whisper's JSON; None for JSON of another kind.

    A word without times (WhisperX cannot align figures) stays in its place without them.

    Raises:
        ValueError: it is not JSON, or a segment has no text or no times.
    """
    content = parse_json(transcript.text)
    if isinstance(content, dict):
        of_cpp = content.get("transcription")
        if isinstance(of_cpp, list):
            return map(_of_cpp, of_cpp)
        content = content.get("segments")
    if not isinstance(content, list) or not all(_is_segment(item) for item in content):
        return None
    return map(_segment, content)


def _is_segment(item: Any) -> bool:
    return isinstance(item, dict) and {"start", "end", "text"} <= set(item)


def _segment(item: dict[str, Any]) -> Segment:
    words = item.get("words")
    return Segment(
        seconds(item["start"], "start"),
        seconds(item["end"], "end"),
        _text(item["text"]),
        _speaker(item.get("speaker")),
        tuple(map(_word, words)) if isinstance(words, list) else (),
    )


def _word(item: Any) -> TimedWord:
    if not isinstance(item, dict):
        raise ValueError(f"a word is {item!r:.40}, not an object")
    text = _text(item.get("word", item.get("text"))).strip()
    start_s, end_s = _optional(item.get("start")), _optional(item.get("end"))
    return TimedWord(text, *((None, None) if None in (start_s, end_s) else (start_s, end_s)))


def _of_cpp(item: Any) -> Segment:
    """whisper.cpp counts milliseconds."""
    offsets = item.get("offsets") if isinstance(item, dict) else None
    if not isinstance(offsets, dict):
        raise ValueError(f"a segment of whisper.cpp without offsets: {item!r:.40}")
    start_s, end_s = (seconds(offsets.get(name), name) / 1000 for name in ("from", "to"))
    return Segment(start_s, end_s, _text(item.get("text")))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is {value!r:.40}")
    return value


def _speaker(value: Any) -> str | None:
    return None if value is None else str(value)


def _optional(value: Any) -> Seconds | None:
    return None if value is None else seconds(value, "a word's time")
