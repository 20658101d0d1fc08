"""Switchboard's dialogue acts, as people have them → one tidy table of clips and acts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class SwitchboardSettings(Settings):
    """Settings of `speechkd switchboard convert`."""

    root: Path = setting(
        help="NXT's release (nxt_switchboard_ann), or Switchboard-Corpus (swda_data is in it).",
        argument=True,
    )
    audio: Path = setting(
        help="Folder of the recordings, at any depth: sw02005.sph, sw2005.wav with a side on each "
        "channel, or sw2005A.wav.",
    )
    out: Path = setting(
        help="The table to write (.csv); paths in it are relative to --audio.",
    )
    words: Path | None = setting(
        None,
        help="Folder of MS-State's word transcripts (swb_ms98_transcriptions), which tell "
        "Switchboard-Corpus the times that it lacks.",
    )
    labels: Literal["nite", "swbd"] = setting(
        "nite",
        help="Of NXT: its own names of acts, or SWBD-DAMSL's tags as they were written.",
        origin="assumed",
    )
    split_list: list[str] = setting(
        [],
        help="train=FILE, valid=FILE and test=FILE: a conversation per line (sw2005). "
        "Conversations in none are left out. Switchboard-Corpus has splits of its own.",
    )


def run(settings: SwitchboardSettings) -> None:
    """Turn Switchboard's dialogue acts into one table with a row per act, and count the rest.

    The columns are key, path, channel (from 1), start, end (in seconds), text, act, recording (the
    conversation), speaker, and split if there is one. speechkd shard (with --channel-column
    channel) and speechkd finetune audio both read it.

    Example: speechkd switchboard convert nxt_switchboard_ann --audio swb1 --out acts.csv
    """
    from collections import Counter

    from pipeline.tasks.switchboard import nxt, swda
    from pipeline.tasks.switchboard.acts import (
        Recordings,
        audible_acts,
        divided,
        read_lists,
        write_acts,
    )

    notes: Counter[str] = Counter()
    if xml := nxt.folder_of(settings.root):
        if settings.words:
            raise SpeechkdError("--words changes nothing: NXT has times of its own. Leave it out.")
        said = nxt.read_nxt(xml, settings.labels, notes)
    elif folder := swda.folder_of(settings.root):
        if settings.words is None:
            raise SpeechkdError(
                f"{settings.root} tells no times. Name MS-State's word transcripts with --words."
            )
        if settings.labels != "nite":
            raise SpeechkdError(
                f"--labels {settings.labels} is for NXT: Switchboard-Corpus has one name of each "
                "act. Leave it out."
            )
        said = swda.read_swda(folder, settings.words)
    else:
        raise NotThere(
            f"{settings.root} holds neither xml/dialAct and xml/terminals (NXT) nor train and test "
            "(Switchboard-Corpus)."
        )
    acts = audible_acts(said, Recordings.below(settings.audio), notes)
    if settings.split_list:
        acts = divided(acts, read_lists(settings.split_list), notes)
    rows = list(acts)
    if not rows:
        counts = "; ".join(f"{what}: {count:,}" for what, count in sorted(notes.items()))
        raise SpeechkdError(f"{settings.root}: no act can be cut out of a recording ({counts}).")
    write_acts(rows, settings.out)
    hours = sum(row.end - row.start for row in rows) / 3600
    print(
        f"{settings.out}: {len(rows):,} acts of {len({row.recording for row in rows}):,} "
        f"conversations, {hours:,.2f} h, {len({row.act for row in rows}):,} labels"
    )
    for split, count in Counter(row.split for row in rows if row.split).items():
        print(f"  {split}: {count:,}")
    for what, count in sorted(notes.items()):
        print(f"  {what}: {count:,}")


COMMANDS = {"switchboard convert": (SwitchboardSettings, run)}
