"""A speech module for a cache of frames: a trained one, or one of fresh weights."""

from pathlib import Path

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.corpus.frame_statistics import new_front, source_of
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.models.encoders import why_without
from pipeline.models.speech import SpeechModule, SpeechShape, build_speech, load_speech
from pipeline.models.speech_front import FRONT_FILE, SpeechFront

FRESH = "fresh:"
BASE = "base"
RUN_FOLDER = "speech"
SHRINK_FRAMES = 500.0


def is_fresh(source: str) -> bool:
    """Whether a user asks for fresh weights: `fresh:base` or `fresh:RUN`."""
    return source.startswith(FRESH)


def speech_folder(source: str) -> Path:
    """The folder of the speech module that a user names: a run's, or itself.

    Raises:
        NotThere: there is none.
    """
    folder = Path(source)
    for candidate in (folder / RUN_FOLDER, folder):
        if (candidate / FRONT_FILE).is_file():
            return candidate
    why = f": {why_without(folder)}" if (folder / "run.json").is_file() else ""
    raise NotThere(
        f"{source} has no {RUN_FOLDER}/{FRONT_FILE}{why}. Name a run of `speechkd pretrain "
        "masked-audio` or `speechkd pretrain splat`, or fresh:base for fresh weights."
    )


def open_speech(
    source: str, cache: TeacherCache, reader: SequenceReader, folder: Path | None
) -> tuple[SpeechModule, SpeechFront]:
    """The module that a user names, and what stands before it.

    Fresh weights come from torch's global generator: seed it beforehand. `fresh:base` has the
    paper's size and takes mean and deviation from the cache; `fresh:RUN` has size, mean and
    deviation of a run's module.

    Args:
        source: a run, its folder speech/, `fresh:base` or `fresh:RUN`.
        cache: of the frames that it shall read.
        reader: of the same cache.
        folder: for prepared files; None for the usual one.

    Raises:
        SpeechkdError: there is no such module, it reads another front end than the cache has, or
            its longest clip is shorter than the cache's.
    """
    name = source.removeprefix(FRESH)
    if is_fresh(source) and name == BASE:
        front = new_front(
            cache,
            reader,
            normalise="speaker",
            shrink_frames=SHRINK_FRAMES,
            stack=1,
            read="cls",
            folder=folder,
        )
        shape = SpeechShape(channels=front.channels, most_rows=cache.identity.most_rows)
        return build_speech(shape), front
    module, front = load_speech(speech_folder(name))
    front.check_source(source_of(cache.identity), cache.location, name)
    longest = int(reader.clips.rows.max(initial=0))
    if -(-longest // front.stack) > module.most_positions:
        raise SpeechkdError(
            f"{cache.location} has a clip of {longest:,} frames, and {name} has positions for "
            f"{module.most_positions * front.stack:,}. Make the shards with a smaller "
            "--clip-seconds."
        )
    if is_fresh(source):
        config = module.encoder.config
        shape = SpeechShape(
            channels=front.channels,
            most_rows=module.most_positions * front.stack,
            stack=front.stack,
            layers=int(config.num_hidden_layers),
            width=int(config.hidden_size),
            heads=int(config.num_attention_heads),
            dropout=float(config.hidden_dropout_prob),
            read=front.read,
        )
        module = build_speech(shape)
    return module, front
