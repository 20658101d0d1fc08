"""A small copy of IEMOCAP's layout: five sessions of two actors, with what real folders hold."""

from pathlib import Path

import numpy as np
import soundfile

CODES = ("ang", "hap", "exc", "neu", "sad", "fru", "xxx")


def make_iemocap(root: Path, sessions: int = 5, seconds: float = 0.3) -> Path:
    """Write the tree and return IEMOCAP_full_release.

    Each session has an improvised and a scripted dialogue, in which either actor says a turn of
    each code; the fourth turn of each actor has no words but a tag.
    """
    release = root / "IEMOCAP_full_release"
    source = np.random.default_rng(0)
    for session in range(1, sessions + 1):
        folder = release / f"Session{session}"
        for part in ("dialog/EmoEvaluation/Categorical", "dialog/transcriptions", "sentences/wav"):
            (folder / part).mkdir(parents=True)
        for act in ("impro01", "script01_1"):
            dialogue = f"Ses0{session}F_{act}"
            labels = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            spoken = []
            for place, code in enumerate(CODES):
                for actor in "FM":
                    turn = f"{dialogue}_{actor}{place:03d}"
                    start = 2.5 * place
                    labels += [
                        f"[{start:.4f} - {start + 2:.4f}]\t{turn}\t{code}\t"
                        "[2.5000, 3.0000, 3.5000]",
                        "C-E2:\tNeutral;\t()",
                        f"C-{actor}1:\tAnger;\t(mad)",
                        "A-E3:\tval 3; act 2;\t()",
                        "",
                    ]
                    words = (
                        "[LAUGHTER]"
                        if code == "sad" and actor == "M"
                        else f"{code}  said. [BREATHING]"
                    )
                    spoken.append(f"{turn} [{start:08.4f}-{start + 2:08.4f}]: {words}")
                    wave = folder / "sentences" / "wav" / dialogue / f"{turn}.wav"
                    wave.parent.mkdir(exist_ok=True)
                    soundfile.write(wave, source.normal(size=int(16_000 * seconds)) / 20, 16_000)
            spoken.append("M: a line that belongs to no turn")
            text = folder / "dialog" / "transcriptions" / f"{dialogue}.txt"
            text.write_text("\n".join(spoken), encoding="latin-1")
            file = folder / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
            file.write_text("\n".join(labels), encoding="latin-1")
            (file.parent / f"._{dialogue}.txt").write_bytes(b"\0\5\x16\7\0")
            (file.parent / "Categorical" / f"{dialogue}_e1_cat.txt").write_text("not read")
    return release
