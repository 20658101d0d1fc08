"""Spoken SQuAD (Li et al. 2018) as its authors hand it out: SQuAD's JSON, and a wave per sentence.

The JSON is that of SQuAD 1.1, with what a speech recogniser heard in place of each paragraph; a
full stop ends a sentence. Waves are called TOPIC_PARAGRAPH_SENTENCE.wav by their places in it, from
0. Nothing there says when an answer is spoken: the words of a cache do (`extract-teacher --keep
words`).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.units import Seconds
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.shards.words import spelling
from pipeline.tasks.spans.passages import joined

SENTENCE_COLUMNS = ("path", "text", "key", "recording")
PASSAGE_COLUMNS = ("passage", "clip")
QUESTION_COLUMNS = (
    *("question_id", "question", "passage", "answer_start_s", "answer_end_s"),
    *("split", "group", "answer"),
)
_WAVE = re.compile(r"(\d+)_(\d+)_(\d+)\.wav", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """A sentence of a paragraph.

    Attributes:
        key: of its clip.
        words: where each begins and ends in the paragraph, and how it is written.
    """

    key: str
    words: tuple[tuple[int, int, str], ...]

    @property
    def text(self) -> str:
        """What is said in it."""
        return " ".join(word for _, _, word in self.words)


@dataclass(frozen=True)
class Paragraph:
    """A spoken paragraph and what is asked about it.

    Attributes:
        name: of the passage: `SPLIT/TOPIC_PARAGRAPH`.
        title: of its article.
        split: `train` or `test`.
        context: what was heard.
        sentences: in their order.
        questions: as the JSON has them.
    """

    name: str
    title: str
    split: str
    context: str
    sentences: tuple[Sentence, ...]
    questions: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """A row of the table of questions; fields as its columns."""

    question_id: str
    question: str
    passage: str
    answer_start_s: Seconds
    answer_end_s: Seconds
    split: str
    group: str
    answer: str


def read_paragraphs(path: Path, split: str) -> list[Paragraph]:
    """Read the paragraphs of a file of Spoken SQuAD.

    Raises:
        Damaged: it is no such file; what is wrong is named.
    """
    try:
        content = parse_json(read_text_file(path))
        paragraphs = [
            _paragraph(f"{split}/{topic}_{place}", split, str(article["title"]), paragraph)
            for topic, article in enumerate(content["data"])
            for place, paragraph in enumerate(article["paragraphs"])
        ]
    except FileNotFoundError:
        raise NotThere(f"{path}: there is no such file.") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(
            f"{path} is not in the form of SQuAD 1.1 ({error!r}); wanted is data[].paragraphs[] "
            "with context and qas[], as spoken_train-v1.1.json has them."
        ) from None
    twice = [
        name
        for name, count in Counter(q["id"] for p in paragraphs for q in p.questions).items()
        if count > 1
    ]
    if twice:
        raise Damaged(f"{path}: question {twice[0]} stands there twice.")
    return paragraphs


def _paragraph(name: str, split: str, title: str, record: Mapping[str, Any]) -> Paragraph:
    context = record["context"]
    sentences: list[Sentence] = []
    begin = 0
    for piece in context.split("."):
        words = tuple(
            (begin + word.start(), begin + word.end(), word[0])
            for word in re.finditer(r"\S+", piece)
        )
        if words:
            sentences.append(Sentence(f"{name}_{len(sentences)}", words))
        begin += len(piece) + 1
    for question in record["qas"]:
        if not isinstance(question["id"], str) or not isinstance(question["question"], str):
            raise TypeError(f"the id or the text of question {question['id']!r} is not text")
        for answer in question["answers"]:
            if type(answer["answer_start"]) is not int or not isinstance(answer["text"], str):
                raise TypeError(f"an answer of question {question['id']} is {answer!r}")
    return Paragraph(name, title, split, context, tuple(sentences), record["qas"])


def spoken(
    paragraphs: Sequence[Paragraph], folder: Path, notes: Counter[str]
) -> Iterator[tuple[Paragraph, list[Path]]]:
    """The paragraphs whose every sentence has its wave, with these.

    Args:
        paragraphs: of one split.
        folder: that has the waves, at any depth.
        notes: counts paragraphs that are left out. Those with more or fewer waves than sentences
            are, because nobody can tell which wave says which sentence.

    Raises:
        NotThere: the folder has no such wave at all.
        SpeechkdError: it has two of one name, as where both splits are below it.
    """
    waves: dict[tuple[int, int], dict[int, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if named := _WAVE.fullmatch(path.name):
            topic, place, sentence = map(int, named.groups())
            other = waves.setdefault((topic, place), {}).setdefault(sentence, path)
            if other != path:
                raise SpeechkdError(
                    f"{other} and {path} are both called as one sentence's wave is, so it cannot "
                    "be told which of them says it. Name a folder with the waves of one split."
                )
    if not waves:
        raise NotThere(
            f"{folder} has no wave called TOPIC_PARAGRAPH_SENTENCE.wav, such as 0_0_0.wav."
        )
    for paragraph in paragraphs:
        topic, place = map(int, paragraph.name.rpartition("/")[2].split("_"))
        own = waves.pop((topic, place), {})
        if not own:
            notes["paragraphs without a wave, left out"] += 1
        elif sorted(own) != list(range(len(paragraph.sentences))):
            notes["paragraphs whose waves are not as many as their sentences, left out"] += 1
        else:
            yield paragraph, [own[number] for number in sorted(own)]
    if waves:
        notes["paragraphs of waves that the JSON does not have"] = len(waves)


@dataclass(frozen=True)
class Heard:
    """What caches tell of clips.

    Attributes:
        seconds_of: how long each clip is, by its key, of the frames that will be asked.
        words_of: its words with `text`, `start_s`, `end_s` and `trusted`.
    """

    seconds_of: Mapping[str, Seconds]
    words_of: Mapping[str, Sequence[Mapping[str, Any]]]


def answers(
    paragraphs: Sequence[Paragraph], heard: Heard, splits: Mapping[str, str], notes: Counter[str]
) -> Iterator[Answer]:
    """Each answer whose time is known, once.

    An answer is sought where `answer_start` says. Where that is not its text, as in the noisy test
    sets, it is sought by its text, and left out if that stands in several places.

    Args:
        paragraphs: of one split or several.
        heard: of their clips.
        splits: the split of each article by its title, where it is another than the file's.
        notes: counts what is left out.
    """
    for paragraph in paragraphs:
        keys = [sentence.key for sentence in paragraph.sentences]
        if any(key not in heard.seconds_of for key in keys):
            notes["paragraphs with a sentence that the cache of frames lacks, left out"] += 1
            continue
        starts = joined(paragraph.name, keys, heard.seconds_of).starts_s
        for question in paragraph.questions:
            spans: dict[tuple[Seconds, Seconds], str] = {}
            for answer in question["answers"]:
                span = _span(paragraph, starts, answer, heard, notes)
                if span is not None:
                    spans.setdefault(span, answer["text"])
            if not spans:
                notes["questions without an answer whose time is known, left out"] += 1
            for (start, end), text in spans.items():
                yield Answer(
                    question["id"],
                    question["question"],
                    paragraph.name,
                    round(start, 6),
                    round(end, 6),
                    splits.get(paragraph.title, paragraph.split),
                    paragraph.title,
                    text,
                )


def _span(
    paragraph: Paragraph,
    starts: Sequence[Seconds],
    answer: Mapping[str, Any],
    heard: Heard,
    notes: Counter[str],
) -> tuple[Seconds, Seconds] | None:
    """When an answer is said in its passage; None, and a note, if that is not known."""
    place = _place(paragraph.context, answer, notes)
    if place is None:
        return None
    ends: list[tuple[Seconds, Seconds]] = []
    for sentence, start in zip(paragraph.sentences, starts, strict=True):
        inside = [
            number
            for number, (begin, end, _) in enumerate(sentence.words)
            if begin < place[1] and end > place[0]
        ]
        if not inside:
            continue
        words = heard.words_of.get(sentence.key)
        if words is None:
            notes["answers in a sentence whose words have no times, left out"] += 1
            return None
        if [spelling(w["text"]) for w in words] != [spelling(w) for _, _, w in sentence.words]:
            notes["answers in a sentence whose words are others in the cache, left out"] += 1
            return None
        first, last = words[inside[0]], words[inside[-1]]
        if not (first["trusted"] and last["trusted"]):
            notes["answers that begin or end with a word whose time is not trusted, left out"] += 1
            return None
        ends.append((start + float(first["start_s"]), start + float(last["end_s"])))
    if not ends:
        notes["answers without a word, left out"] += 1
        return None
    return ends[0][0], ends[-1][1]


def _place(context: str, answer: Mapping[str, Any], notes: Counter[str]) -> tuple[int, int] | None:
    """Where an answer begins and ends in its paragraph."""
    text, start = answer["text"], answer["answer_start"]
    if not text.strip():
        notes["answers without a word, left out"] += 1
        return None
    if start >= 0 and context[start : start + len(text)] == text:
        return start, start + len(text)
    several = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", context)]
    if len(several) == 1:
        return several[0]
    where = "in several places, and answer_start names none" if several else "nowhere"
    notes[f"answers whose text stands {where} in their paragraph, left out"] += 1
    return None


def validation_split(paragraphs: Sequence[Paragraph], share: float, seed: int) -> dict[str, str]:
    """The training articles that validate, whole ones in an order that is drawn by their titles.

    Args:
        paragraphs: of training.
        share: of the questions that they shall have at least, as long as others are left.
        seed: another seed takes other articles.
    """
    sizes: Counter[str] = Counter()
    for paragraph in paragraphs:
        sizes[paragraph.title] += len(paragraph.questions)
    order = sorted(sizes, key=lambda title: hashlib.sha256(f"{seed}:{title}".encode()).digest())
    taken, dealt = [], 0
    for title in order[:-1]:
        if dealt >= share * sum(sizes.values()):
            break
        taken.append(title)
        dealt += sizes[title]
    return dict.fromkeys(taken, "valid")


def check_titles(paragraphs: Sequence[Paragraph]) -> None:
    """Refuse an article that is both in training and in the test.

    Raises:
        SpeechkdError: there is one.
    """
    split_of: dict[str, str] = {}
    for paragraph in paragraphs:
        if split_of.setdefault(paragraph.title, paragraph.split) != paragraph.split:
            raise SpeechkdError(
                f"article {paragraph.title} is both in training and in the test; what is met in "
                "training must not be in the test."
            )
