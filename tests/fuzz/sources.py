"""What `speechkd shard` reads of others: files of times, layouts of corpora, tables with audio."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.shards.arrow import find_files
from pipeline.shards.corpora import open_source
from pipeline.shards.parts import Make, Plan, choose_columns, entries_of
from pipeline.shards.recording_table import RecordingColumns
from pipeline.shards.recordings import Entry
from pipeline.shards.survey import survey
from pipeline.shards.timed import Cutting, Notes, TimedFolder
from pipeline.shards.transcripts.formats import FORMATS
from pipeline.shards.writing import Sample
from tests.helpers.audio_tables import rows, save_to_disk, write_parquet

SUFFIXES = tuple(FORMATS)
CLOCK = "00:00:01,000 --> 00:00:02,500"
GRID = (
    '"ooTextFile"\n"TextGrid"\n0 3\n<exists>\n2\n'
    '"IntervalTier"\n"words"\n0 3\n2\n0 1 "hi"\n1 3 ""\n'
    '"TextTier"\n"x"\n0 3\n1\n1 "!"\n'
)
EAF = (
    '<?xml version="1.0"?><ANNOTATION_DOCUMENT><TIME_ORDER>'
    '<TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="900"/>'
    '</TIME_ORDER><TIER TIER_ID="t" PARTICIPANT="p"><ANNOTATION><ALIGNABLE_ANNOTATION '
    'ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"><ANNOTATION_VALUE>h&amp;i'
    "</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
)
WORDS = [{"word": "hi", "start": 0, "end": 1}, {"word": "you"}]
TIMES = {
    ".json": [
        json.dumps({"segments": [{"start": 0, "end": 20, "text": "hi you", "words": WORDS}]}),
        json.dumps({"transcription": [{"offsets": {"from": 0, "to": 9}, "text": "hi"}]}),
    ],
    ".textgrid": [GRID, GRID.replace("words", "anna")],
    ".eaf": [EAF],
    ".stm": ["talk 1 anna 0 1 <o,f0> hi\n;; x\ntalk B ben 0.5 2 you\n"],
    ".ctm": ["talk 1 0 0.5 hi\ntalk 1 * * <ALT_BEGIN>\ntalk 1 1 1 you\n"],
    ".vtt": [
        f"WEBVTT\n\nNOTE x\n\n{CLOCK.replace(',', '.')}\n<v Anna>hi &amp; you\n",
        f"WEBVTT\n\n{CLOCK}\nhi<00:00:01.500><c> you</c>\n\n{CLOCK}\nhi you\n",
    ],
    ".srt": [f"1\n{CLOCK}\n<i>hi</i>\n\n2\n{CLOCK}\n{{\\an8}}you\n"],
    ".rttm": [
        "SPEAKER talk 1 0 1 <NA> <NA> anna <NA> <NA>\nLEXEME talk 1 0 1 hi lex anna 1 <NA>\n"
    ],
    ".txt": ["0.5\t1.5\thi\n\\\t1\t2\n"],
}

FILES = {
    "kaldi/wav.scp": "r r.wav\n",
    "kaldi/text": "u hi you\nv there\n",
    "kaldi/segments": "u r 0 1\nv r 1 -1\n",
    "kaldi/utt2spk": "u anna\nv v\n",
    "lhotse/recordings.jsonl": json.dumps(
        {
            "id": "r",
            "sources": [{"type": "file", "channels": [0, 1], "source": "r.wav"}],
            "sampling_rate": 16_000,
        }
    ),
    "lhotse/supervisions.jsonl": json.dumps(
        {
            "id": "s",
            "recording_id": "r",
            "start": 1,
            "duration": 2,
            "channel": 1,
            "text": "hi",
            "alignment": {"word": [["hi", 1, 1, None]]},
        }
    ),
    "cuts/cuts.jsonl": json.dumps(
        {
            "id": "c",
            "type": "MonoCut",
            "start": 1,
            "supervisions": [{"id": "s", "start": 0, "duration": 1, "text": "hi"}],
            "recording": {"id": "r", "sources": [{"type": "file", "source": "r.wav"}]},
        }
    ),
    "listing/all.stm": TIMES[".stm"][0],
    "listing2/all.ctm": TIMES[".ctm"][0],
    "timit/DR1/A/S.TXT": "0 16000 Hi you.\n",
    "timit/DR1/A/S.WRD": "0 100 hi\n100 200 you\n",
    "timit/DR1/A/S.PHN": "0 1 h#\n",
    "mls/transcripts.txt": "1_2_3\thi\n",
}
LAYOUTS = {
    "kaldi": "kaldi",
    "lhotse": "lhotse",
    "cuts": "lhotse",
    "listing": "listing",
    "listing2": "listing",
    "timit": "timit",
    "mls": "mls",
}


def times_seeds(_: Path) -> list[bytes]:
    """Good files of times of every format."""
    return [
        bytes([SUFFIXES.index(suffix)]) + text.encode()
        for suffix, texts in TIMES.items()
        for text in texts
    ]


def read_times_file(content: bytes, folder: Path) -> str:
    """A file of times beside a recording; its suffix is told by the first byte."""
    place = folder / "times"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    suffix = SUFFIXES[content[0] % len(SUFFIXES)] if content else ".srt"
    (place / f"talk{suffix}").write_bytes(content[1:])
    entries = TimedFolder(Cutting(join_s=0.5), Notes()).entries("talk", place / "talk.wav")
    return _outcome(list(entries or ()))


def layout_seeds(_: Path) -> list[bytes]:
    """A good file of each layout."""
    return [bytes([number]) + text.encode() for number, text in enumerate(FILES.values())]


def read_layout(content: bytes, folder: Path) -> str:
    """A corpus of which one file, told by the first byte, is another."""
    replaced = list(FILES)[content[0] % len(FILES)] if content else "kaldi/text"
    place = folder / replaced.partition("/")[0]
    for name, text in FILES.items():
        if name.startswith(f"{place.name}/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content[1:] if name == replaced else text.encode())
    (place / "audio").mkdir(exist_ok=True)
    layout = LAYOUTS[place.name]
    source = place
    if layout == "listing":
        source = folder / replaced
        (place / "audio" / "talk.wav").touch()
    return _outcome(list(open_source(source, layout, cutting=Cutting(join_s=0.5)).read()))  # type: ignore[arg-type]


def _outcome(found: Sequence[object]) -> str:
    entries = [entry for entry in found if isinstance(entry, Entry)]
    for entry in entries:
        json.dumps(vars(entry), default=str)
    return "read" if entries else "refused"


def audio_table_seeds(folder: Path) -> list[bytes]:
    """A Parquet file and a stream of Arrow, of three short clips."""
    table = rows(3)
    write_parquet(folder / "t.parquet", table)
    save_to_disk(folder / "saved", [table])
    stream = (folder / "saved" / "data-00000-of-00001.arrow").read_bytes()
    return [b"\0" + (folder / "t.parquet").read_bytes(), b"\1" + stream]


def read_audio_table(content: bytes, folder: Path) -> str:
    """A table that holds audio, as `shard` surveys and decodes it."""
    path = folder / ("t.arrow" if content and content[0] % 2 else "t.parquet")
    path.write_bytes(content[1:])
    files = find_files(str(path))
    plan = Plan(choose_columns(files[0], RecordingColumns()), 10, 15)
    (part,) = survey(files, plan, 0, lambda _: None)
    results = [Make(15)(clip) for clip in entries_of(part, plan, 0)]
    return "read" if any(isinstance(result, Sample) for result in results) else "samples refused"
