"""The file systems that s3fs keeps: closed in time, none complains when the process ends."""

import asyncio
from typing import Any

import zarr

from tests.helpers.processes import PATIENCE_SECONDS


def close_all() -> None:
    """Close the connections of all instances and forget these.

    s3fs itself closes those of an instance that is collected, but gives it 0.1 s for that.
    """
    from fsspec.asyn import sync
    from s3fs import S3FileSystem

    for instance in list(S3FileSystem._cache.values()):
        client = getattr(instance, "_s3creator", None)
        if client is not None:  # it has connected
            loop = instance.loop or zarr.core.sync._get_loop()  # one that awaits is zarr's
            sync(loop, _close, client, timeout=PATIENCE_SECONDS)
    S3FileSystem.clear_instance_cache()


async def _close(client: Any) -> None:
    """Close a client, and end the requests that nobody waits for any more."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=PATIENCE_SECONDS / 2)
    await client.__aexit__(None, None, None)
