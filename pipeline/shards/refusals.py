"""Refusals: one list of the reasons for which entries and samples are left out."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "reason": (str,),
    "detail": (str,),
    "key": (str, type(None)),
    "position": (int,),
    "where": (str,),
}


class Reason(StrEnum):
    """Every reason for which a sample is refused, in the words of receipts and summaries."""

    MISSING_AUDIO = "missing audio"
    """There is no such file, or none of the sample's members is audio."""
    UNDECODABLE_AUDIO = "undecodable audio"
    """libsndfile cannot read it, it is cut off, or its sample rate is no recording's."""
    EMPTY_AUDIO = "empty audio"
    """It has no bytes, no samples, or too few for one at 16 kHz."""
    NON_FINITE_AUDIO = "non-finite audio"
    """A sample is NaN or infinite."""
    TOO_LONG = "too long"
    """The audio is longer than a clip may be (`shard --clip-seconds`, 15 by default)."""
    TOO_SHORT = "too short"
    """The audio is shorter than what the teacher needs for one state."""
    OUTSIDE = "segment outside the recording"
    """Its times are no numbers, run backwards, or lie beyond the recording's ends."""
    SEVERAL_AUDIO_MEMBERS = "several audio members"
    """Its members hold more than one recording, and nothing says which is meant."""
    MISSING_TEXT = "missing text"
    """There is no transcript, or it is blank."""
    UNUSABLE_TEXT = "unusable text"
    """The transcript is not valid Unicode, or takes too many bytes."""
    NO_WORD = "no word"
    """The text has nothing that can be said, so that there is no word to find the time of."""
    UNUSABLE_WORDS = "unusable words"
    """The times of its words are malformed, of another text, or none can be right."""
    UNUSABLE_TIMES = "unusable file of times"
    """The file of segments beside a recording is broken, or does not say what of it is meant."""
    UNREADABLE_JSON = "unreadable json"
    """The .json is not UTF-8, not JSON, or not an object."""
    MALFORMED_ROW = "malformed row"
    """The line of the table has too few or too many cells."""
    UNUSABLE_KEY = "unusable key"
    """The key cannot name a sample; `recordings.key_fault` has the rule."""
    DUPLICATE_KEY = "duplicate key"
    """An earlier sample has the same key."""
    PICKLED_MEMBER = "pickled member"
    """A member has the suffix of a pickle, which could run code when it is loaded."""
    TOO_MANY_MEMBERS = "too many members"
    """More members share one key than any sample needs."""
    MEMBER_TOO_LARGE = "member too large"
    """The members of one key take more bytes than any clip does."""
    TRUNCATED_TAR = "truncated tar"
    """The tar is shorter than the manifest says, and ends before or within the sample."""
    NON_FINITE_VECTOR = "non-finite vector"
    """The teacher's vector of the clip is NaN or infinite as it would be stored."""


class RefusedError(Exception):
    """Raised if a sample cannot be used; whoever knows its key makes a `Refusal` of it."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Refusal:
    """A sample or an entry that is left out, and why."""

    reason: str
    """A `Reason`; in a receipt of an earlier version it may be another word."""
    detail: str
    """What exactly is wrong, for people."""
    key: str | None
    """None if the tar ends before the sample, so that nobody knows its key."""
    position: int | None = None
    """The sample's place in its tar, from 0; None for an entry, which is in no tar yet."""
    where: str | None = None
    """File and line of the entry; None for a sample of a tar."""

    def record(self) -> dict[str, Any]:
        """The refusal as receipts and refused.jsonl keep it.

        A sample of a tar has `position, key, reason, detail`; an entry has `key, reason, detail,
        where`.
        """
        record = {"key": self.key, "reason": str(self.reason), "detail": self.detail}
        if self.where is None:
            return {"position": self.position, **record}
        return {**record, "where": self.where}

    @classmethod
    def from_record(cls, record: Any, place: Literal["position", "where"]) -> Self:
        """Read what `record` gave.

        Args:
            record: parsed JSON, whatever it holds.
            place: which of the two fields must be there.

        Raises:
            ValueError: it is no object, or a field is missing or of the wrong type.
        """
        fields = ("reason", "detail", "key", place)
        if not isinstance(record, dict) or not all(
            name in record and type(record[name]) in FIELD_TYPES[name] for name in fields
        ):
            raise ValueError(f"not a refusal: {record!r}")
        return cls(**{name: record[name] for name in fields})
