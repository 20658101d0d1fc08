"""What to tell whoever named a folder that is not the cache that is wanted."""

from collections.abc import Collection

from pipeline.cache.identity import KINDS, MAKERS, Kind
from pipeline.foundation.folder import Folder
from pipeline.foundation.progress import alternatives

# A file that tells what a folder is, and what it is then called.
SIGNS = {
    "manifest.jsonl": "a folder of shards, from which caches are made",
    "run.json": "the folder of a run",
    "results.json": "a results folder",
    "hearing.json": "a folder of probe hearing",
    "front.json": "a speech module",
    "config.json": "a model",
}


def makers(kinds: Collection[Kind]) -> str:
    """A sentence that names the commands that make caches of some kinds, each by itself."""
    if len(kinds) == len(KINDS):
        commands = [MAKERS["vector"], "speechkd extract-features"]
    else:
        commands = list(dict.fromkeys(MAKERS[kind] for kind in kinds))
    return f"Make one with {alternatives([f'`{command}`' for command in commands])}."


def what_is_there(folder: Folder) -> str:
    """What a location holds that is not a cache, as the rest of a sentence that names it."""
    if folder.path is not None and not folder.path.exists():
        return "there is no cache here, and nothing else"
    if folder.path is not None and folder.path.is_file():
        return "there is no cache here: it is a file, and a cache is a folder"
    for sign, meaning in SIGNS.items():
        if folder.holds(sign):
            return f"there is no cache here: it is {meaning}"
    return "there is no cache here"
