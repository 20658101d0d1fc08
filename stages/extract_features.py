"""Tar shards → cache: the frames of each clip that models of speech read. Stage one, no teacher."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.extraction.settings import FeatureSettings

if TYPE_CHECKING:
    import torch

    from pipeline.cache.identity import Identity
    from pipeline.extraction.rows import Encodes


def run(settings: FeatureSettings) -> None:
    """Compute frames of every clip, once, into a cache.

    MANIFEST lists tar shards; speechkd shard makes both. The frames of a clip lie together, and its
    key, text and duration are stored with them. A shard is done once its receipt is written. So the
    command may be stopped at any time, run as a job array, run on several machines at once, and run
    again: each time it does what is not done yet.

    Example: speechkd extract-features shards/manifest.jsonl --features whisper-mel --cache mels
    """
    from pipeline.cluster.shares import array_task
    from pipeline.extraction.running import run_extraction
    from pipeline.foundation.devices import CPU, devices_named
    from pipeline.foundation.workers import cores
    from pipeline.shards.manifest import read_manifest

    manifest = read_manifest(settings.manifest)
    task = array_task(settings.array_task)
    by_cpu = settings.features == "prosody"
    devices = [CPU] if by_cpu else devices_named(settings.devices)
    speed = settings
    if by_cpu and settings.workers < 0:  # the slowest of all, so each core helps at once
        speed = replace(settings, workers=cores())
    encoder_on = _FeaturesOn(settings)

    def about(identity: "Identity") -> str:
        frames = f"{identity.rows_per_second:g} frames per second of {identity.width} values"
        return f"features    {identity.kind}, {frames}, on {', '.join(map(str, devices))}"

    run_extraction(settings, speed, manifest, task, devices, encoder_on, settings.dtype, about)


@dataclass(frozen=True)
class _FeaturesOn:
    """Makes what computes the features on a device. Can be sent to other processes."""

    settings: FeatureSettings

    def __call__(self, device: "torch.device") -> "Encodes":
        from pipeline.extraction.features import make_features
        from pipeline.foundation.devices import use

        use(device)
        return make_features(self.settings, device)


COMMANDS = {"extract-features": (FeatureSettings, run)}
