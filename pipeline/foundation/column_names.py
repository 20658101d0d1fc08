"""Names that columns of tables usually have, by what the column says."""

from collections.abc import Sequence

USUAL_NAMES = {
    "path": "path audio_filepath audio_path audio_file audio file_name filename filepath file wav",
    "text": "text sentence transcript transcription normalized_text normalized_transcript",
    "key": "key utt_id utterance_id id sample_id",
    "speaker": "speaker speaker_id client_id spk_id spk",
    "recording": "recording recording_id video_id audio_id session_id",
}


def usual_column(what: str, present: Sequence[str]) -> str:
    """The column that says `what` by its usual name, in any case; empty if there is none.

    Args:
        what: one of `USUAL_NAMES`; its names are looked for in their order.
        present: names of a table's columns.
    """
    lower = {name.lower(): name for name in reversed(present)}
    return next((lower[name] for name in USUAL_NAMES[what].split() if name in lower), "")
