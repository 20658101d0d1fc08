"""What the card of a CTAL model says."""

from collections.abc import Mapping
from typing import Any

from pipeline.foundation.progress import counted
from pipeline.training.card import CardWords, code


def card_words(record: Mapping[str, Any]) -> CardWords:
    """From the record of its run."""
    settings, data, model = record["settings"], record["data"], record["model"]
    cache = data["caches"]["frames"]
    parameters = model["text_parameters"] + model["audio_parameters"]
    is_control = settings["control"] != "real"
    control = (
        " **This is a control**: each clip had another one's text, so nothing of what text and "
        "audio have in common can have been learnt."
        if is_control
        else ""
    )
    return CardWords(
        title=f"CTAL, {counted(settings['layers'], 'layer')} per stack, {parameters:,} parameters"
        + (", a control" if is_control else ""),
        summary="A text encoder and an encoder of audio frames that looks at the text, made by "
        "`speechkd pretrain ctal` from masked tokens and masked frames (Li et al. 2021, "
        f"arXiv:2109.00181).{control}",
        pipeline_tag="feature-extraction",
        tags=("speechkd", "ctal", "audio", "text-encoder"),
        usage=(
            "from transformers import AutoModel, AutoTokenizer",
            'text = AutoModel.from_pretrained("model/text")',
            'tokenizer = AutoTokenizer.from_pretrained("model/text")',
            "",
            "from pathlib import Path",
            "from pipeline.models.text_referred import load_audio",
            'audio = load_audio(Path("model/audio"))  # model/features.json says what it reads',
        ),
        data=(
            f"{data['train_clips']:,} clips to train on, {data['held_out_clips']:,} held out",
            f"a cache of {cache['kind']}, width {cache['width']}, {code(cache['location'])}, "
            f"digest `{cache['sha256'][:16]}…`",
            *([data["told"]] if data["told"] else []),
        ),
        training=(
            f"{model['text']} of {model['text_parameters']:,} parameters, {model['vocabulary']:,} "
            f"tokens; audio stack of {model['audio_parameters']:,}",
            f"weights of the losses: masked tokens {settings['mlm_weight']:g}, masked frames "
            f"{settings['mcam_weight']:g}; frames look at the text: {settings['cross']}",
        ),
        unit="frames",
    )
