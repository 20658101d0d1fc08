"""What a distilled student's card says about its teacher, its data and its objectives."""

from collections.abc import Mapping
from typing import Any

from pipeline.distillation.objectives import OBJECTIVES
from pipeline.foundation.progress import counted
from pipeline.training.card import CardWords, card, code


def model_card(record: Mapping[str, Any]) -> str:
    """The README.md of a student, from its run's record."""
    settings, data, student = record["settings"], record["data"], record["student"]
    words = CardWords(
        title=f"{student['architecture']}, {student['parameters']:,} parameters, {_taught(record)}",
        summary="A text-only encoder made by `speechkd distill`. "
        f"{_distilled(record)} It needs no audio.",
        pipeline_tag="fill-mask",
        tags=("speechkd", "knowledge-distillation", "text-encoder"),
        usage=(
            "from transformers import AutoModel, AutoTokenizer",
            'model = AutoModel.from_pretrained("student")',
            'tokenizer = AutoTokenizer.from_pretrained("student")',
        ),
        data=(
            f"{counted(data['train_clips'], 'clip')} to train on, {data['held_out_clips']:,} held "
            "out by "
            f"recording; {counted(data['tokens'], 'token')} in all, "
            f"{counted(data['truncated'], 'text')} cut to "
            f"{settings['max_tokens']} tokens, {len(data['dropped'])} without text left out",
            *_cache(data),
            *_words(data),
            *_texts(data),
        ),
        training=[
            f"{name}: weight γ {gamma:g}, teacher side {record['teacher_sides'][name]}"
            for name, gamma in record["gammas"].items()
        ],
    )
    return card(record, words)


def _cache(data: Mapping[str, Any]) -> list[str]:
    if "cache_sha256" not in data:
        return []
    return [_heard(data["teacher"]), f"cache digest `{data['cache_sha256'][:16]}…`"]


def _texts(data: Mapping[str, Any]) -> list[str]:
    """Of clips that are texts without speech; a cache's own texts have speech."""
    if "texts" not in data:
        return []
    texts = data["texts"]
    alone = "" if "cache_sha256" in data else ", which are all there are"
    return [
        f"{counted(texts['texts'], 'text')} without speech among them{alone}, "
        f"{counted(texts['tokens'], 'token')}, digest `{texts['tables_sha256'][:16]}…`; "
        f"{texts['repeated']['held_out']:,} of the texts held out stand in training, too"
    ]


def _heard(cache: Mapping[str, Any]) -> str:
    """What a cache holds, and of which teacher."""
    width = cache.get("d_model", cache.get("width"))
    parts = [f"a cache of {cache.get('kind', 'vector')}", f"width {width}"]
    if "teacher_sha256" in cache:
        named = f"teacher {code(cache['teacher'])}"
        parts[0] = f"{named} (weights sha256 `{cache['teacher_sha256'][:16]}…`)"
    if "pooling" in cache:
        parts.append(f"pooling {code(cache['pooling'])}")
    return ", ".join(parts)


def _words(data: Mapping[str, Any]) -> list[str]:
    if "words" not in data:
        return []
    words = data["words"]
    return [
        f"words: {_heard(words['teacher'])}",
        f"{words['taught']:,} of {counted(words['words'], 'word')} taught, {words['untrusted']:,} "
        "without a "
        f"trusted time, {words['cut']:,} cut off, {words['without_token']:,} without a token",
    ]


def _objectives(record: Mapping[str, Any]) -> list[str]:
    return [name for name in record["objectives"] if name != "none"]


def _control(record: Mapping[str, Any]) -> str:
    """What stood in for the clips' own vectors; empty if nothing did."""
    control: str = record["settings"]["control"]
    return "" if control == "real" else control


def _distilled(record: Mapping[str, Any]) -> str:
    names, control = _objectives(record), _control(record)
    if not names:
        return "No teacher was used: masked-LM training on the transcripts alone."
    titles = ", ".join(f"{name} ({OBJECTIVES[name].title})" for name in names)
    data = record["data"]
    teacher = code(data.get("words", data)["teacher"].get("teacher", "unknown"))
    level = record["settings"].get("level", "clip")
    each = {
        "clip": "",
        "word": ", word by word,",
        "clip+word": ", clip by clip and word by word,",
        "token": ", token by token,",
    }
    sentence = (
        f"It was pulled towards the vectors of the speech encoder {teacher}{each[level]} by "
        f"{titles}."
    )
    if not control:
        return sentence
    return (
        f"{sentence} **This is a control**: the teacher's vectors were {control}, so nothing of "
        "the speech can have been learnt from them."
    )


def _taught(record: Mapping[str, Any]) -> str:
    if record["objectives"] == ["none"]:
        return "trained on transcripts alone"
    if _control(record):
        return "a control: taught by vectors that are not its clips'"
    return "taught by speech"
