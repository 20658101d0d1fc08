"""The tars of others → the data manifest that stage one reads."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting
from pipeline.foundation.units import CLIP_SECONDS, MOST_CLIP_SECONDS

if TYPE_CHECKING:
    from pipeline.shards.listing import Listed


@dataclass(frozen=True, kw_only=True)
class ManifestSettings(Settings):
    """What `speechkd manifest` reads, and what it writes."""

    tars: list[str] = setting(
        help="Tars, folders of them, or patterns such as 's3://bucket/data/*.tar', in this order.",
        argument=True,
    )
    out: Path = setting(Path("manifest.jsonl"), help="The manifest.")
    clip_seconds: int = setting(
        CLIP_SECONDS,
        help="Longest clip that stage one is to take from them.",
        unit="s",
        minimum=1,
        maximum=MOST_CLIP_SECONDS,
    )
    workers: int = setting(
        -1, help="Processes that read tars; 0 reads in this one, -1: one per core.", minimum=-1
    )


def run(settings: ManifestSettings) -> None:
    """Write the data manifest of WebDataset tars that another tool made.

    TARS are read from start to end once, to count their samples and to digest their bytes. A
    sample is what stands side by side under one name, and needs one audio member and a .txt or
    .json with the text. What stage one would refuse for its members is counted, with an example;
    audio is not decoded. When the command is interrupted, the same command carries on.

    Example: speechkd manifest data/train-*.tar --out data/manifest.jsonl
    """
    from contextlib import closing

    from pipeline.foundation.progress import Meter, counted, say
    from pipeline.foundation.workers import cores, in_order
    from pipeline.shards.listing import Progress, list_tar, lost_tar, tars_named, url_from
    from pipeline.shards.manifest import write_manifest

    tars = tars_named(settings.tars)
    progress = Progress(settings.out)
    todo = [tar for tar in tars if tar not in progress]
    if len(todo) < len(tars):
        whole = counted(len(tars), "tar")
        say(f"{settings.out}: {len(tars) - len(todo):,} of {whole} are listed already")
    workers = cores() if settings.workers < 0 else settings.workers
    results = in_order(list_tar, todo, workers, died=lost_tar, per_task=1)
    with (
        closing(results),
        Meter("reading tars", len(tars), "tars", done=len(tars) - len(todo)) as m,
    ):
        for listed in results:
            progress.add(listed)
            m.advance(1)
    found = [progress[tar] for tar in tars]
    empty = [listed.tar for listed in found if not listed.samples]
    if empty:
        raise SpeechkdError(
            f"{empty[0]} holds no sample ({len(empty):,} of {len(tars):,} tars hold none). Leave "
            "such tars out."
        )
    write_manifest(
        settings.out,
        (
            listed.shard(url_from(settings.out, listed.tar), settings.clip_seconds)
            for listed in found
        ),
    )
    progress.remove()
    _print_summary(settings, found)


def _print_summary(settings: ManifestSettings, found: "list[Listed]") -> None:
    from pipeline.foundation.progress import counted

    samples, size = sum(one.samples for one in found), sum(one.bytes for one in found)
    print(
        f"{counted(samples, 'sample')}, {counted(len(found), 'tar')}, {size / 1e6:,.1f} MB: "
        f"{settings.out}"
    )
    faults = sum((Counter(one.faults) for one in found), Counter[str]())
    examples = {name: text for one in reversed(found) for name, text in one.examples.items()}
    for reason, count in faults.most_common():
        print(f"stage one would refuse: {count:,} for {reason}, for instance {examples[reason]}")


COMMANDS = {"manifest": (ManifestSettings, run)}
