"""Small corpora as Hugging Face's `datasets` lays them out, made with pyarrow alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.tars import audio


def rows(count: int, first: int = 0, **others: Any) -> list[dict[str, Any]]:
    """Rows with an id, made-up speech of different lengths as FLAC, and a text."""
    return [
        {
            "id": f"talk_{i // 4}_{i:03d}.flac",
            "audio": {"bytes": audio(3_200 + 160 * i, i), "path": f"{i}.flac"},
            "text": f"this is clip {i}",
            **others,
        }
        for i in range(first, first + count)
    ]


def write_parquet(path: Path, table: Sequence[dict[str, Any]], group: int = 3) -> Path:
    """A Parquet file of row groups of `group` rows."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(table)), path, row_group_size=group)
    return path


def save_to_disk(folder: Path, tables: Sequence[Sequence[dict[str, Any]]]) -> Path:
    """A folder as `Dataset.save_to_disk` leaves it: Arrow streams and their list."""
    import pyarrow

    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{i:05d}-of-{len(tables):05d}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        made = pyarrow.Table.from_pylist(list(table))
        with pyarrow.ipc.new_stream(str(folder / name), made.schema) as stream:
            stream.write_table(made, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder
