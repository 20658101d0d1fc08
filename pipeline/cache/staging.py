"""A copy of a cache of sequences on this machine's own disk, made once for all that read it there.

Training reads random clips: hundreds of ranges of some 200 kB per second. A disk of the machine
gives that, while object storage and a file system that many machines share do not.
"""

import hashlib
import shutil
from pathlib import Path

from pipeline.cache.store import TeacherCache
from pipeline.foundation.atomic import made_once
from pipeline.foundation.errors import Damaged, SpeechkdError
from pipeline.foundation.progress import Meter
from pipeline.foundation.workers import ahead

FILES_AT_ONCE = 8


def staged(cache: TeacherCache, folder: Path) -> TeacherCache:
    """The copy of a cache below a folder; it is made if it is not there yet.

    Its name holds a digest of the cache's content, so it is never out of date. Of several
    processes on the machine one makes it, the others wait. It can be deleted at any time.

    Args:
        cache: a cache of any kind but `vector`.
        folder: on a disk of this machine.

    Raises:
        SpeechkdError: there is too little room, or the cache is one of vectors.
        Damaged: a storage object is not that of its receipt.
    """
    if not cache.identity.is_sequence:
        raise SpeechkdError(
            f"{cache.location} is a cache of vectors, which training copies by itself; --stage-to "
            "is for those of several rows per clip."
        )
    name = f"{cache.identity.kind}-{cache.digest()[:32]}"
    copy = made_once(folder / name, lambda aside: _copy(cache, aside), "copy of this cache")
    return TeacherCache.open(copy, kinds=(cache.identity.kind,))


def _copy(cache: TeacherCache, aside: Path) -> None:
    receipts = cache.receipts()
    digests = {
        name: digest
        for shard, receipt in receipts.items()
        for (_, name), digest in zip(
            cache.object_names(shard, receipt["rows"]),
            [digest for array in cache.arrays for digest in receipt["objects"][array]],
            strict=True,
        )
    }
    digests |= {cache.samples_name(s): r["samples_sha256"] for s, r in receipts.items()}
    others = ["zarr.json", "manifest.jsonl", *(f"{array}/zarr.json" for array in cache.arrays)]
    others += [f"receipts/{shard:06d}.json" for shard in receipts]
    bytes_of_rows = sum(
        array.object_bytes * -(-receipt["rows"] // array.object_rows)
        for receipt in receipts.values()
        for array in cache.arrays.values()
    )
    free = shutil.disk_usage(aside).free
    if free < bytes_of_rows:
        raise SpeechkdError(
            f"{aside.parent}: the copy of {cache.location} takes {bytes_of_rows / 1e9:,.2f} GB, "
            f"but {free / 1e9:,.2f} GB are free. Free some, or name another folder with --stage-to."
        )

    def copy(name: str) -> int:
        content = cache.folder.read(name)
        wanted = digests.get(name)
        if content is None or (wanted and hashlib.sha256(content).hexdigest() != wanted):
            raise Damaged(
                f"{cache.location}: {name} is missing, or not that of its receipt. `speechkd cache "
                "verify` lists all damage."
            )
        path = aside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return len(content)

    with Meter(f"copying {cache.location}", bytes_of_rows / 1e6, "MB") as meter:
        for count in ahead(copy, [*others, *digests], FILES_AT_ONCE):
            meter.advance(count / 1e6)
