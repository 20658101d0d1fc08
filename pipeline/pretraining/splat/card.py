"""What the card of a speech module says, from its run's record."""

from collections.abc import Mapping
from typing import Any

from pipeline.foundation.progress import counted
from pipeline.models.speech import SpeechModule
from pipeline.models.speech_front import SpeechFront
from pipeline.training.card import CardWords, code

USAGE = (
    "import soundfile",
    "from front import Speech  # speech/front.py, which needs torch and transformers alone",
    'speech = Speech("speech")',
    'wave, rate = soundfile.read("clip.wav")  # 16 kHz, one channel',
    "vector = speech(wave, rate)",
)
ALIGNED = {
    "seq": "the vector of each clip is near that of its text (Eq. 2)",
    "tok": "each token has a frame near it (Eq. 3)",
    "tok-contrast": "its frames match its own text's tokens better than those of other texts",
}


def speech_record(module: SpeechModule, front: SpeechFront) -> dict[str, Any]:
    """What `run.json` says of a speech module."""
    config = module.encoder.config
    return {
        "architecture": config.model_type,
        "layers": config.num_hidden_layers,
        "width": module.width,
        "parameters": sum(p.numel() for p in module.parameters()),
        "front": front.record(),
    }


def masked_audio_card(record: Mapping[str, Any]) -> CardWords:
    """The card of a module that was trained by masked audio alone."""
    return _card(
        record,
        "trained on masked frames",
        "A speech encoder made by `speechkd pretrain masked-audio`: it was trained to fill in what "
        "is hidden of log-mel frames (SPLAT, step 1). It knows no text.",
        (),
    )


def splat_card(record: Mapping[str, Any]) -> CardWords:
    """The card of a module that was aligned to a text encoder."""
    settings, text = record["settings"], record["data"]["caches"]["text"]
    control = settings["control"]
    summary = (
        "A speech encoder made by `speechkd pretrain splat` (SPLAT, step 4): it was trained so "
        f"that {ALIGNED[settings['align']]}; the text encoder is {code(str(text['teacher']))} and "
        "stayed as it was. It reads audio alone."
    )
    if control != "real":
        summary += (
            f" **This is a control**: the states of the texts were {control}, so nothing of what "
            "the text encoder knows of these clips can have been learnt from them."
        )
    taught = "a control: aligned to other texts" if control != "real" else "aligned to text"
    data = (
        f"text states: width {text['width']}, weights sha256 "
        f"`{str(text['teacher_sha256'])[:16]}…`, cache digest `{text['sha256'][:16]}…`",
    )
    return _card(record, taught, summary, data)


def _card(
    record: Mapping[str, Any], taught: str, summary: str, further: tuple[str, ...]
) -> CardWords:
    speech, data = record["speech"], record["data"]
    frames, front = data["caches"]["frames"], speech["front"]
    return CardWords(
        title=f"Speech encoder, {counted(speech['layers'], 'layer')}, "
        f"{speech['parameters']:,} parameters, {taught}",
        summary=summary,
        pipeline_tag="feature-extraction",
        tags=("speechkd", "speech", "splat"),
        usage=USAGE,
        data=(
            f"{data['train_clips']:,} clips to train on, {data['held_out_clips']:,} held out by "
            f"{record['settings']['hold_out_by']}",
            f"frames: {frames['kind']}, width {frames['width']}, cache digest "
            f"`{frames['sha256'][:16]}…`",
            *further,
        ),
        training=(
            *_geometry(record),
            f"normalised per {front['normalise']}, {front['stack']} frames per position, what "
            f"stands for a clip: {front['read']}",
        ),
        unit="frames",
    )


def _geometry(record: Mapping[str, Any]) -> list[str]:
    """How alike vectors of held-out clips are, beside those of their texts."""
    return [
        f"cosines of held-out clips of different texts, {side}: mean "
        f"{figures['average_other_text']:.3f}, of those with the nearest texts "
        f"{figures['nearest_other_text']:.3f}"
        for side, figures in record.get("geometry", {}).items()
    ]
