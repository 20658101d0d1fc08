"""Audacity's labels: a text file of lines `start<tab>end<tab>label`."""

import re
from collections.abc import Iterator

from pipeline.shards.transcripts.numbers import seconds
from pipeline.shards.transcripts.segment import Segment, Transcript

_NUMBER = r" *\d+(?:[.,]\d+)? *"
_LABEL = re.compile(rf"({_NUMBER})\t({_NUMBER})(?:\t(.*))?")


def parse(transcript: Transcript) -> Iterator[Segment] | None:
    """The labels; None if not every line is one, because then the file is a plain text.

    A line that begins with a backslash holds the frequencies of the label before it.
    """
    lines = [line for line in transcript.text.split("\n") if line.strip()]
    labels = [_LABEL.fullmatch(line) for line in lines if not line.startswith("\\")]
    if not labels or None in labels:
        return None
    return (
        Segment(seconds(match[1], "a time"), seconds(match[2], "a time"), match[3] or "")
        for match in labels
        if match
    )
