"""Look into a cache of any kind, check it, export it, merge several."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting
from pipeline.foundation.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.cache.store import TeacherCache


@dataclass(frozen=True, kw_only=True)
class InfoSettings(Settings):
    """Settings of `speechkd cache info`."""

    cache: str = setting(help="Cache of any kind (path or URL).", argument=True)
    refused: bool = setting(False, help="List every refused sample instead, as JSON lines.")


@dataclass(frozen=True, kw_only=True)
class VerifySettings(Settings):
    """Settings of `speechkd cache verify`."""

    cache: str = setting(help="Cache of any kind (path or URL).", argument=True)
    tars: bool = setting(True, help="Also hash the tars, as far as they can be found.")


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """Settings of `speechkd cache export`."""

    cache: str = setting(help="Cache of any kind (path or URL).", argument=True)
    out: Path = setting(help="Folder to make.")
    unfinished: bool = setting(False, help="Export the finished shards of an unfinished cache.")


@dataclass(frozen=True, kw_only=True)
class MergeSettings(Settings):
    """Settings of `speechkd cache merge`."""

    caches: list[str] = setting(help="Caches of one kind and the same settings.", argument=True)
    out: str = setting(help="Cache to make or to continue (path or URL).")
    prefix_keys: str = setting(
        "",
        help="Of corpora with equal keys: a name per cache, in their order, separated by commas. "
        "It is put before keys and recordings (a,b makes a/0001 of 0001).",
    )


def info(settings: InfoSettings) -> None:
    """Describe a cache on one page: kind, rows, hours, bytes, teacher, statistics, refused samples.

    Example: speechkd cache info caches/mine
    """
    cache = _opened(settings.cache)
    if settings.refused:
        _print_refused(cache)
    else:
        _print_page(cache)


def verify(settings: VerifySettings) -> None:
    """Check every row, key, text and receipt of a cache, and the tars; name any damage.

    The exit status is 1 if something is damaged or not done.

    Example: speechkd cache verify caches/mine
    """
    from pipeline.cache import verification
    from pipeline.foundation.progress import Meter, counted, say

    cache = _opened(settings.cache)
    problems, skipped = 0, []
    with Meter("verifying", len(cache.manifest), "shards") as meter:
        for event in verification.verify(cache, tars=settings.tars):
            if isinstance(event, verification.Damage):
                problems += 1
                print(printable(str(event)))
            else:
                meter.advance(1)
                if event.tar_skipped:
                    skipped.append(event.tar_skipped)
    if settings.tars and skipped:
        tars = counted(len(skipped), "tar was", "tars were")
        say(f"{tars} not checked, the first: {skipped[0]}")
    if problems:
        raise SpeechkdError(f"{cache.location}: {counted(problems, 'problem')}, listed above.")
    checked = len(cache.manifest) - len(skipped)
    whole = counted(len(cache.manifest), "tar")
    tars = f", {checked:,} of {whole} checked too" if settings.tars else ""
    print(f"{cache.location}: sound; {_rows(cache)}{tars}")


def export(settings: ExportSettings) -> None:
    """Write a cache as NumPy arrays and samples.jsonl, in manifest order.

    Of vectors: line i of samples.jsonl (row, key, text, duration_s, shard) belongs to row i of
    embedding.npy. Of all other kinds: the rows of line i are those of rows.npy from offsets.npy[i]
    to offsets.npy[i + 1], uint8 as the float32 values that it stands for; of words there is
    words.jsonl too, a line per row (clip, word, start_s, end_s, trusted), and of text ids.npy.
    Refused samples are left out.

    Example: speechkd cache export caches/mine --out exported
    """
    from pipeline.cache.export import export
    from pipeline.foundation.progress import Meter

    cache = _opened(settings.cache)
    unfinished = cache.unfinished()
    if unfinished and not settings.unfinished:
        raise SpeechkdError(
            f"{cache.location}: {len(unfinished)} of {len(cache.manifest)} shards are not done. "
            f"Finish it with `{cache.maker}`, or give --unfinished."
        )
    with Meter("exporting", len(cache.manifest) - len(unfinished), "shards") as meter:
        for _ in export(cache, settings.out):
            meter.advance(1)
    print(f"{settings.out}: {_rows(cache)} of {cache.identity.width}")


def merge(settings: MergeSettings) -> None:
    """Join caches of the same kind and settings into one.

    If the caches have one manifest, their finished shards come together. If they have different
    manifests, the shards of one follow those of the other. Rows are copied as they are. Equal
    keys of different clips are refused, unless --prefix-keys tells them apart. The same command
    again does what is not done yet.

    Example: speechkd cache merge site-a site-b --out all
    """
    from pipeline.cache.merging import (
        check_keys,
        copy_shards,
        merged_identity,
        merged_manifest,
    )
    from pipeline.cache.store import TeacherCache
    from pipeline.foundation.progress import Meter, counted
    from pipeline.foundation.provenance import versions

    caches = [_opened(location) for location in settings.caches]
    prefixes = settings.prefix_keys.split(",") if settings.prefix_keys else []
    manifest = merged_manifest(caches)
    check_keys(caches, prefixes)
    identity = merged_identity(caches, prefixes)
    target = TeacherCache.create_or_open(settings.out, manifest, identity, versions())
    done = len(target.receipts())
    with Meter("merging", len(manifest), "shards", done=done) as meter:
        for _ in copy_shards(caches, target, prefixes):
            meter.advance(1)
    unfinished = len(target.unfinished())
    print(
        f"{target.location}: {_rows(target)}, {len(manifest) - unfinished} of "
        f"{counted(len(manifest), 'shard')} done"
    )


def _opened(location: str) -> "TeacherCache":
    from pipeline.cache.identity import KINDS
    from pipeline.cache.store import TeacherCache

    return TeacherCache.open(location, kinds=KINDS)


def _rows(cache: "TeacherCache") -> str:
    """How many rows there are, and of how many clips where it is not the same."""
    from pipeline.foundation.progress import counted

    if not cache.identity.is_sequence:
        return counted(cache.written, "row")
    return f"{counted(cache.written, 'clip')}, {counted(cache.rows, 'row')}"


def _print_refused(cache: "TeacherCache") -> None:
    import json

    for receipt in cache.receipts().values():
        for refusal in receipt["refused"]:
            print(json.dumps({"shard": receipt["url"], **refusal}, ensure_ascii=False))


def _print_page(cache: "TeacherCache") -> None:
    import numpy as np

    from pipeline.cache.receipts import UNTRUSTED_WORDS
    from pipeline.foundation.progress import counted

    identity, receipts = cache.identity, cache.receipts()
    refused = [(r["url"], refusal) for r in receipts.values() for refusal in r["refused"]]
    hours = sum(receipt["audio_seconds"] for receipt in receipts.values()) / 3600
    statistics = cache.statistics()
    written, samples = cache.written, cache.manifest.samples
    versions: Counter[str] = Counter()
    for receipt in receipts.values():
        versions[", ".join(f"{k} {v}" for k, v in receipt["versions"].items())] += 1

    page: list[tuple[str, str]] = []

    def row(name: str, value: Any) -> None:
        page.append((name, printable(str(value))))

    row("cache", f"{cache.location} (format {identity.format_version})")
    row("shards", f"{len(receipts):,} of {len(cache.manifest):,} done")
    row("clips" if identity.is_sequence else "rows", f"{written:,} of {counted(samples, 'sample')}")
    row("audio", f"{hours:,.2f} h, {hours * 3600 / max(written, 1):.2f} s per clip")
    if identity.is_sequence:
        row("kind", identity.kind)
        row("rows", f"{cache.rows:,}, {cache.rows / max(written, 1):,.1f} per clip")
        per_second = f", {identity.rows_per_second:g} per second" if identity.hop_samples else ""
        if identity.kind == "words":
            untrusted = sum(receipt[UNTRUSTED_WORDS] for receipt in receipts.values())
            words = counted(untrusted, "word")
            row("untrusted", f"{words} whose time is not trusted; no loss has them")
        row("row", f"{identity.width} × {identity.dtype}{per_second}")
        for name, value in identity.settings.items():
            row(name, value)
    else:
        row("teacher", identity.text("teacher"))
        row("weights", f"sha256 {identity.text('teacher_sha256')}")
        precision = identity.text("precision")
        row("vectors", f"{identity.width} × {identity.dtype}, encoder in {precision}")
        layer = f" of layer {identity.text('layer')}" if "layer" in identity.settings else ""
        seen = identity.text("context_seconds")
        context = f"{seen} s of context" if seen != "0" else "the clip alone as context"
        row("pooling", f"{identity.text('pooling')}{layer}, {context}")
        if "channel" in identity.settings:
            row("channel", f"{identity.text('channel')} of each clip")
    if statistics.count:
        what = "row" if identity.is_sequence else "vector"
        norm = float(np.linalg.norm(statistics.mean_E))
        spread = float(np.sqrt((statistics.std_E**2).sum()))
        row(
            "statistics",
            f"length of the mean {what} {norm:.3g}, spread around it {spread:.3g}, "
            f"standard deviation per dimension {statistics.std_E.min():.2g} to "
            f"{statistics.std_E.max():.2g}",
        )
    row("size", f"{cache.folder.size() / 1e6:,.1f} MB")
    row("manifest", f"{cache.manifest.location}, sha256 {identity.manifest_sha256}")
    for text, count in versions.most_common():
        row("made with", f"{text} ({counted(count, 'shard')})")
    row("refused", counted(len(refused), "sample"))
    for reason, count in Counter(refusal["reason"] for _, refusal in refused).most_common():
        examples = [
            f"{refusal['key'] or 'sample {}'.format(refusal['position'])} in {url}"
            for url, refusal in refused
            if refusal["reason"] == reason
        ][:2]
        row("", f"{count:,} {reason}, such as {'; '.join(examples)}")
    if refused:
        row("", "all of them: speechkd cache info --refused")
    _print_table(page)


def _print_table(page: "Sequence[tuple[str, str]]") -> None:
    """Print names and values. Lines break between words alone, so a digest can be copied."""
    from textwrap import wrap

    from rich.console import Console
    from rich.text import Text

    console, width = Console(highlight=False), max(len(name) for name, _ in page) + 2
    for name, value in page:
        room = max(console.width - width, 1)
        lines = wrap(value, room, break_long_words=False, break_on_hyphens=False)
        text = f"\n{'':{width}}".join(lines)
        console.print(Text.assemble((f"{name:{width}}", "bold"), text), soft_wrap=True)


COMMANDS = {
    "cache info": (InfoSettings, info),
    "cache verify": (VerifySettings, verify),
    "cache export": (ExportSettings, export),
    "cache merge": (MergeSettings, merge),
}
