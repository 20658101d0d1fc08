"""IEMOCAP, as its authors hand it out → one tidy table of clips, texts and labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class IemocapSettings(Settings):
    """Settings of `speechkd iemocap convert`."""

    root: Path = setting(
        help="IEMOCAP_full_release, or the folder that holds it.",
        argument=True,
    )
    out: Path = setting(
        help="The table to write (.csv); paths in it are relative to IEMOCAP_full_release.",
    )
    excited: Literal["merge", "drop", "only"] = setting(
        "merge",
        help="Turns labelled excited: count them as happy, leave them out, or let them alone stand "
        "for happy. Results with one are never comparable to those with another.",
        origin="assumed",
    )


def run(settings: IemocapSettings) -> None:
    """Turn IEMOCAP into one table with a row per turn, and say what was left out.

    The columns are key, path, text, label (angry, neutral, sad, and "happy or excited", or under
    --excited drop "happy", under only "excited"), session, speaker, recording, act (improvised or
    scripted), valence, activation, dominance. speechkd shard and speechkd finetune audio-text both
    read it.

    Example: speechkd iemocap convert IEMOCAP_full_release --out iemocap.csv
    """
    from collections import Counter

    from pipeline.tasks.iemocap import labels_of, read_iemocap, write_turns

    turns, notes = read_iemocap(settings.root, settings.excited)
    write_turns(turns, settings.out)
    print(f"{settings.out}: {len(turns):,} turns; excited turns: {settings.excited}")
    names = labels_of(settings.excited)
    for session in sorted({turn.session for turn in turns}):
        mine = [turn for turn in turns if turn.session == session]
        counts = Counter(turn.label for turn in mine)
        improvised = sum(turn.act == "improvised" for turn in mine)
        labels = ", ".join(f"{label} {counts[label]:,}" for label in names)
        print(f"  session {session}: {len(mine):,}, {improvised:,} of them improvised; {labels}")
    for what, count in sorted(notes.items()):
        print(f"  {what}: {count:,}")
    print("  scripted turns say the same words in every session; judge improvised ones apart")


COMMANDS = {"iemocap convert": (IemocapSettings, run)}
