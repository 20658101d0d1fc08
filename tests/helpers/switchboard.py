"""Small copies of what people have of Switchboard: NXT's XML, SwDA's texts, words, recordings."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import soundfile

NITE = 'xmlns:nite="http://nite.sourceforge.net/" nite:id="root"'
WORDS = {
    ("2005", "A"): [("Okay", 0.5, 0.8), ("do", 1.0, 1.1), ("n't", 1.1, 1.25), ("you", None, None),
                    ("agree", 1.4, 1.9), ("yes", 3.0, 3.3)],
    ("2005", "B"): [("uh-huh", 0.6, 0.9), ("right", 2.0, 2.4)],
    ("2010", "A"): [("well", 0.2, 0.5), ("hi", 0.7, 0.9)],
}  # fmt: skip
ACTS = {  # label, tag, pointers
    ("2005", "A"): [("agree", "aa", ["s0"]), ("yn_q", "qy^t", ["s1..s4"]),
                    ("excluded", "x", ["s5"])],
    ("2005", "B"): [("backchannel", "b", ["s0"]), ("statement", "sd", ["sil", "s1"])],
    ("2010", "A"): [("statement", "sd(^q)", ["s0", "s1"])],
}  # fmt: skip


def make_nxt(root: Path) -> Path:
    """Write the layers of words, acts and dialogues, and return nxt_switchboard_ann."""
    release = root / "nxt_switchboard_ann"
    xml = release / "xml"
    for layer in ("dialAct", "terminals", "corpus-resources"):
        (xml / layer).mkdir(parents=True)
    dialogues = []
    for (number, side), words in WORDS.items():
        lines = ['<sil nite:id="sil" nite:start="1.9" nite:end="2.0"/>']
        for i, (word, start, end) in enumerate(words):
            times = [("n/a" if time is None else f"{time:.6f}") for time in (start, end)]
            lines.append(
                f'<word nite:id="s{i}" nite:start="{times[0]}" nite:end="{times[1]}" '
                f"orth={quoteattr(word)}/>"
            )
            lines.append(f'<punc nite:id="s{i}p">,</punc>')
        body = "\n".join(lines)
        (xml / "terminals" / f"sw{number}.{side}.terminals.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<nite:root {NITE}>{body}</nite:root>'
        )
        acts = []
        for i, (label, tag, pointers) in enumerate(ACTS[number, side]):
            targets = [
                "..".join(f"id({name})" for name in pointer.split("..")) for pointer in pointers
            ]
            children = "".join(
                f'<nite:child href="sw{number}.{side}.terminals.xml#{target}"/>'
                for target in targets
            )
            acts.append(f'<da nite:id="da{i}" niteType="{label}" swbdType="{tag}">{children}</da>')
        (xml / "dialAct" / f"sw{number}.{side}.dialAct.xml").write_text(
            f"<nite:root {NITE}>{''.join(acts)}</nite:root>"
        )
    for number in ("2005", "2010"):
        pointers = "".join(
            f'<nite:pointer role="{side}" href="speakers.xml#id({who}{number[-1]})"/>'
            for side, who in (("A", "10"), ("B", "20"))
        )
        dialogues.append(f'<dialogue nite:id="d{number}" swbdid="{number}">{pointers}</dialogue>')
    (xml / "corpus-resources" / "dialogues.xml").write_text(
        f"<nite:root {NITE}>{''.join(dialogues)}</nite:root>"
    )
    return release


LINES = {
    ("train", "2005"): [
        "A|Okay, uh,|aa", "B|Uh-huh.|b", "A|don't you [ agree ]?|qy", "B|Right. <laughter>|aa",
        "A|<laughter>|%", "A|Something that nobody said.|sd", "A|Yes.|ny",
    ],
    ("val", "2010"): ["A|Well, hi.|fp"],
    ("test", "2020"): ["B|Bye-bye.|fc"],
}  # fmt: skip
SPOKEN = {
    ("2005", "A"): [
        ("[silence]", 0.0, 0.5), ("okay", 0.5, 0.8), ("uh", 0.8, 0.9), ("don't", 1.0, 1.25),
        ("you_1", 1.25, 1.4), ("[laughter-agree]", 1.4, 1.9), ("yes", 3.0, 3.3),
    ],
    ("2005", "B"): [("uh-huh", 0.6, 0.9), ("right", 2.0, 2.4), ("[laughter]", 2.4, 2.8)],
    ("2010", "A"): [("well", 0.2, 0.5), ("hi", 0.7, 0.9)],
    ("2020", "B"): [("bye-bye", 0.1, 0.5)],
}  # fmt: skip


def make_swda(root: Path) -> tuple[Path, Path]:
    """Write the texts by split and the words, and return the folders of both."""
    for (split, number), lines in LINES.items():
        folder = root / "Switchboard-Corpus" / "swda_data" / split
        folder.mkdir(parents=True)
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")
        (folder / f"{number}_text.txt").write_text("of another version\n")
    words = root / "swb_ms98_transcriptions"
    for (number, side), spoken in SPOKEN.items():
        folder = words / number[:2] / number
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"sw{number}{side}-ms98-a-word.text").write_text(
            "".join(
                f"sw{number}{side}-ms98-a-0001 {start:.6f} {end:.6f} {word}\n"
                for word, start, end in spoken
            )
        )
    return root / "Switchboard-Corpus", words


def make_audio(root: Path) -> Path:
    """Two-channel recordings at 8 kHz (2005, 2020), of sides (2010), of none (2099)."""
    folder, rng = root / "swb1", np.random.default_rng(0)
    (folder / "disc1" / "data").mkdir(parents=True)
    for number in ("2005", "2020", "2099"):
        wave = rng.standard_normal((32_000, 2)) * [0.1, 0.3]
        soundfile.write(
            folder / "disc1" / "data" / f"sw0{number}.sph",
            wave,
            8000,
            subtype="ULAW",
            format="NIST",
        )
    soundfile.write(folder / "sw2010A.wav", rng.standard_normal(16_000) * 0.1, 8000)
    return folder
