"""People's Speech from Hugging Face: parquet files → audio files and a table for `speechkd shard`.

Usage: python peoples_speech.py PARQUET_FOLDER OUT_FOLDER
Needs: pip install pyarrow
"""

import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq

ROWS_AT_ONCE = 100


def extract(parquet: Path, out: Path) -> Path:
    """Write the clips of one parquet file below `out`; return the path of their table."""
    part = out / "parts" / f"{parquet.stem}.jsonl"
    if part.exists():
        return part
    folder = out / "clips" / parquet.stem
    folder.mkdir(parents=True, exist_ok=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    unfinished = part.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as table:
        batches = pq.ParquetFile(parquet).iter_batches(
            ROWS_AT_ONCE, columns=["id", "audio", "text"]
        )
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows):
            clip = folder / f"{number:06d}.flac"  # never a name that comes from the data
            clip.write_bytes(row["audio"]["bytes"])
            key = row["id"].removesuffix(".flac")
            line = {
                "id": key,
                "path": str(clip.relative_to(out)),
                "text": row["text"],
                "recording": re.sub(r"_\d+$", "", key),
            }
            table.write(json.dumps(line) + "\n")
    unfinished.rename(part)
    return part


def main(source: Path, out: Path) -> None:
    """Extract every parquet file of `source`, then join the parts of the table."""
    parquets = sorted(source.glob("*.parquet"))
    if not parquets:
        sys.exit(f"error: no .parquet file in {source}")
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / "table.unfinished"
    with unfinished.open("w", encoding="utf-8") as table:
        for count, parquet in enumerate(parquets, start=1):
            table.write(extract(parquet, out).read_text(encoding="utf-8"))
            print(f"{count}/{len(parquets)} {parquet.name}", file=sys.stderr)
    unfinished.rename(out / "table.jsonl")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
