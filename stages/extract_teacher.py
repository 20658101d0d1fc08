"""Tar shards → cache: what a speech teacher hears in each clip, computed once. Stage one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.extraction.settings import ExtractSettings, precision_on

if TYPE_CHECKING:
    import torch

    from pipeline.cache.identity import Identity
    from pipeline.extraction.rows import Encodes
    from pipeline.extraction.teacher import EncoderPrecision


def run(settings: ExtractSettings) -> None:
    """Compute the teacher's vector of every clip, once, into a cache.

    MANIFEST lists tar shards; speechkd shard makes both. Each clip becomes one vector, and its key,
    text and duration are stored with it. With --keep states it becomes the encoder's states, and
    with --keep words a mean per spoken word: several rows that lie together. A shard is done once
    its receipt is written. So the command may be stopped at any time, run as a job array, run on
    several machines at once, and run again: each time it does what is not done yet.

    Example: speechkd extract-teacher shards/manifest.jsonl --cache caches/mine
    """
    from pipeline.cluster.shares import array_task
    from pipeline.extraction.running import run_extraction
    from pipeline.foundation.devices import devices_named
    from pipeline.shards.manifest import read_manifest

    manifest = read_manifest(settings.manifest)
    task = array_task(settings.array_task)
    devices = devices_named(settings.devices)
    encoder_on = _EncoderOn(settings, precision_on(settings, devices), manifest.clip_seconds)

    def about(identity: "Identity") -> str:
        kept = "a mean per word" if settings.keep == "words" else f"{settings.pooling} pooling"
        if settings.keep == "states":
            kept = "states" if settings.stride == 1 else f"means of {settings.stride} states"
        if identity.settings.get("layer") is not None:
            kept += f" of layer {identity.text('layer')}"
        seen = identity.text("context_seconds")
        context = f"{seen}s context" if seen != "0" else "the clip alone as context"
        return (
            f"teacher     {identity.text('teacher')} ({identity.text('precision')}), {kept}, "
            f"{context}, on {', '.join(map(str, devices))}"
        )

    run_extraction(settings, settings, manifest, task, devices, encoder_on, settings.dtype, about)


@dataclass(frozen=True)
class _EncoderOn:
    """Loads the teacher that the settings name onto a device. Can be sent to other processes."""

    settings: ExtractSettings
    precision: "EncoderPrecision"
    clip_seconds: int

    def __call__(self, device: "torch.device") -> "Encodes":
        from pipeline.extraction.speech_teacher import load_speech_teacher
        from pipeline.extraction.teacher import DummyTeacher
        from pipeline.extraction.whisper_rows import MeanVectors, States
        from pipeline.foundation.devices import use

        use(device)
        pooling, context = self.settings.pooled, self.settings.context
        if self.settings.encoder == "dummy":
            dummy = DummyTeacher(device, self.clip_seconds)
            return MeanVectors(dummy, pooling, int(context.removesuffix("s")))
        teacher = load_speech_teacher(
            self.settings.teacher,
            device=device,
            precision=self.precision,
            pooling=pooling,
            context=context,
            layer=self.settings.layer,
            keep_later=self.settings.keep == "words",
        )
        if self.settings.keep == "states":
            return States(teacher, self.settings.stride)
        if self.settings.keep == "words":
            from pipeline.extraction.word_rows import WordMeans
            from pipeline.extraction.word_times import aligner_or_why_not

            name, language = self.settings.teacher, self.settings.language
            aligner = aligner_or_why_not(name, language, self.settings.known_lag_ms, teacher)
            return WordMeans(teacher, aligner, language)
        return MeanVectors(teacher, pooling, teacher.context_seconds)


COMMANDS = {"extract-teacher": (ExtractSettings, run)}
