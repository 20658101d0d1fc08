"""What the card of a WhisBERT run says, from the run's record alone."""

from collections.abc import Mapping
from typing import Any

from pipeline.pretraining.whisbert.losses import TITLES
from pipeline.training.card import CardWords, code


def whisbert_card(record: Mapping[str, Any]) -> CardWords:
    """The words of a run's card."""
    settings, data, texts = record["settings"], record["data"], record["texts"]
    frames = data["caches"]["frames"]
    parameters = record["parameters"]
    weights = ", ".join(f"{name} {weight:g}" for name, weight in record["losses"].items())
    twin = record.get("twin_of")
    return CardWords(
        title=f"WhisBERT's text encoder, {parameters['text']:,} parameters, {_taught(record)}",
        summary=f"A text encoder made by `speechkd pretrain whisbert`. {_summary(record)}"
        f"{_begun(record)} student/ "
        "is the text encoder alone and needs no audio; whisbert/ holds all encoders.",
        pipeline_tag="fill-mask",
        tags=("speechkd", "whisbert", "text-encoder"),
        usage=(
            "from transformers import AutoModel, AutoTokenizer",
            'model = AutoModel.from_pretrained("student")',
            'tokenizer = AutoTokenizer.from_pretrained("student")',
        ),
        data=(
            f"{data['train_clips']:,} clips to train on, {data['held_out_clips']:,} held out by "
            f"{settings['hold_out_by']}; {texts['tokens']:,} tokens in all, {texts['truncated']:,} "
            f"texts cut to {settings['max_tokens']} tokens, {len(texts['dropped'])} without text "
            "left out",
            f"a cache of {code(str(frames['kind']))}, width {frames['width']}, digest "
            f"`{frames['sha256'][:16]}…`",
        ),
        training=(
            f"weights of the losses: {weights}",
            f"parameters: text {parameters['text']:,}, audio {parameters['audio']:,}, fusion "
            f"{parameters['fusion']:,}, with heads {parameters['all']:,}",
            f"arithmetic: {record['cost']['times_twin']:.1f} times that of the text encoder alone",
            *([f"twin: {code(twin['run'])}, losses {twin['losses']}"] if twin else []),
            *_retrieval(record),
        ),
    )


def _control(record: Mapping[str, Any]) -> str:
    control: str = record["settings"]["control"]
    return "" if control == "real" or len(record["losses"]) == 1 else control


def _begun(record: Mapping[str, Any]) -> str:
    """What the text encoder began with, as a sentence after others; empty for fresh weights."""
    start = record.get("text_began_with")
    if start is None:
        return ""
    return (
        f" The text encoder began with the weights of {code(start['name'])} (sha256 "
        f"`{start['sha256'][:16]}…`). BabyLM's rules count what that has read, too."
    )


def _taught(record: Mapping[str, Any]) -> str:
    further = "trained further " if "text_began_with" in record else ""
    if len(record["losses"]) == 1:
        return f"{further or 'trained '}on transcripts alone"
    if _control(record):
        return f"a control: {further}beside audio that is not its own"
    return f"{further}beside audio"


def _summary(record: Mapping[str, Any]) -> str:
    names = [TITLES[name] for name in record["losses"]]
    if len(names) == 1:
        return "It is a text-only twin: masked language modelling on the transcripts, no audio."
    sentence = f"It was trained by {', '.join(names[:-1])} and {names[-1]}."
    if not _control(record):
        return sentence
    return (
        f"{sentence} **This is a control**: the audio was {_control(record)}, so nothing of the "
        "speech can have been learnt from it."
    )


def _retrieval(record: Mapping[str, Any]) -> list[str]:
    return [
        f"held out, {name}: {100 * figures['r1']:.1f} % found first (by chance "
        f"{100 * figures['chance_r1']:.1f} %), {100 * figures['r10']:.1f} % among ten "
        f"({100 * figures['chance_r10']:.1f} %), median rank {figures['median_rank']:g} of "
        f"{figures['candidates']:.0f}"
        for name, figures in (record.get("retrieval") or {}).items()
        if figures
    ]
