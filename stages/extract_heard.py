"""Cache → cache: what a trained CTAL hears at each token of a text, for a text-only student."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class HeardSettings(Settings):
    """Settings of `speechkd extract-heard`."""

    cache: str = setting(help="The cache of log-mels: a path or URL.", argument=True)
    model: Path = setting(help="A run of pretrain ctal, or its model/.")
    out: str = setting(help="The cache to write: a path or URL.")
    layer: int = setting(
        0,
        help="Layer of the audio stack whose attention to the text weighs the frames, from 0. The "
        "first is the best aligned one.",
        minimum=0,
    )
    less: Literal["other-audio", "none"] = setting(
        "other-audio",
        help="What is taken away: what is heard at the same text beside another clip's audio, "
        "because that much the text tells alone; or nothing.",
    )
    control: Literal["real", "shuffled-audio"] = setting(
        "real",
        help="Whether each text stands beside its own audio, or each beside another clip's. What a "
        "student learns under the control as well does not come from the audio.",
    )
    seed: int = setting(0, help="Seed of which clips the others are.", minimum=0, maximum=2**63 - 1)
    max_tokens: int = setting(
        128, help="Longest text; longer texts are cut.", unit="tokens", minimum=4, maximum=510
    )
    batch_size: int = setting(32, help="Clips per pass.", unit="clips", minimum=1)
    dtype: Literal["float16", "float32"] = setting("float16", help="Type of the stored values.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", help="Where to compute.")


def run(settings: HeardSettings) -> None:
    """Write, for each token of each transcript, what a CTAL model hears when it is said.

    A token's vector is the mean of the states of the frames that look at it, weighted by how much
    they do. distill --level token teaches a text-only student from it, with the model's tokenizer.
    A shard is done once its receipt is written; the same command carries on.

    Example: speechkd extract-heard mels --model runs/ctal --out heard
    """
    from pipeline.cache.sequences import SequenceReader, finished
    from pipeline.cache.store import TeacherCache
    from pipeline.corpus.ctal_model import load_ctal
    from pipeline.corpus.frame_features import MELS
    from pipeline.corpus.tokenization import Encoding
    from pipeline.foundation.devices import device_named
    from pipeline.foundation.errors import SpeechkdError
    from pipeline.foundation.progress import counted
    from pipeline.foundation.provenance import versions
    from pipeline.foundation.signals import stop_at_once
    from pipeline.pretraining.ctal.heard import Hearing, heard_identity, pairing, write_heard

    source = finished(TeacherCache.open(settings.cache, kinds=MELS))
    inner = settings.model / "model"
    model = load_ctal(inner if inner.is_dir() else settings.model)
    model.features.check(source.identity, source.location)
    layers = model.audio.config.layers
    if settings.layer >= layers or not model.audio.config.cross:
        raise SpeechkdError(
            f"--layer {settings.layer}: the audio stack of {settings.model} has "
            + (
                f"{counted(layers, 'layer')}, numbered from 0."
                if model.audio.config.cross
                else "no attention to texts (it was trained with --cross off)."
            )
        )
    reader = SequenceReader(source, with_words=False)
    if len(reader.clips) < 3:
        raise SpeechkdError(
            f"{source.location} has {len(reader.clips)} clips; at least 3 are needed, because "
            "others are taken away."
        )
    device = device_named(settings.device)
    model.text.to(device).eval()
    model.audio.to(device).eval()
    identity = heard_identity(
        model,
        source,
        name=settings.model.resolve().name,
        layer=settings.layer,
        less=settings.less,
        control=settings.control,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        dtype=settings.dtype,
    )
    cache = TeacherCache.create_or_open(settings.out, source.manifest, identity, versions())
    own_C, other_C = pairing(len(reader.clips), settings.seed, settings.control)
    hearing = Hearing(
        model,
        reader,
        Encoding(model.tokenizer, settings.max_tokens),
        settings.layer,
        own_C,
        other_C if settings.less == "other-audio" else None,
    )
    with stop_at_once("unfinished shards are dropped; the same command carries on"):
        write_heard(source, cache, hearing, settings.batch_size)
    print(f"{cache.location}: {cache.written:,} clips, a vector of {identity.width} per token")


COMMANDS = {"extract-heard": (HeardSettings, run)}
