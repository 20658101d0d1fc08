"""Where the encoders and the teacher put the test examples: made before any fine-tuning, stored."""

from collections.abc import Sequence

from torch import nn

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import vectors_by_key
from pipeline.finetuning.inputs import Inputs
from pipeline.finetuning.projection import plane, vectors
from pipeline.finetuning.results import Results, projection_name
from pipeline.foundation.arrays import Array
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.task import Question


def project_encoder(
    results: Results,
    ids: Sequence[str],
    questions: Sequence[Question],
    checkpoint: Pretrained,
    encoder: nn.Module,
    inputs: Inputs,
) -> None:
    """Put the test examples' vectors on a plane for the report, before any fine-tuning.

    Args:
        results: where the plane is stored, unless it is there.
        ids: name of each example.
        questions: what is asked of the encoder.
        checkpoint: what is known about it.
        encoder: the encoder as it is.
        inputs: the examples as it reads them.
    """
    task, mine = _first_tests(questions)
    name = projection_name(checkpoint.label, checkpoint.weights_sha256, task)
    if results.has_projection(name):
        return
    places = [place for question in mine for place in question.places["test"]]
    answers = [count for question in mine for count in question.answers("test")]
    points_n2, variance_share = plane(vectors(encoder, inputs, places, answers))
    names = [name for question in mine for name in question.names("test", ids)]
    raw = [label for question in mine for label in question.raw]
    results.add_projection(name, names, raw, points_n2, variance_share)


def _first_tests(questions: Sequence[Question]) -> tuple[str, list[Question]]:
    """The first task, and its questions: one, or one per fold."""
    task = questions[0].task.name
    return task, [question for question in questions if question.task.name == task]


def project_teacher(
    all_ids: Sequence[str], questions: Sequence[Question], location: str
) -> tuple[list[str], list[str], Array, float]:
    """Put the teacher's vectors of the test clips on a plane.

    Args:
        all_ids: name of each example.
        questions: what is asked of the encoders.
        location: of the teacher's cache, whose keys are these names.

    Returns:
        What `Results.add_projection` takes after the name.

    Raises:
        SpeechkdError: the cache has fewer than two of the test clips.
    """
    task, mine = _first_tests(questions)
    ids = [name for question in mine for name in question.names("test", all_ids)]
    labels = [label for question in mine for label in question.raw]
    cache = TeacherCache.open(location)
    places, vectors_nE = vectors_by_key(cache, ids)
    if len(places) < 2:
        key = next((r["key"] for shard in cache.receipts() for r in cache.shard_samples(shard)), "")
        raise SpeechkdError(
            f"--teacher-cache {location} has {len(places)} of the {len(ids):,} test clips. They "
            f"are called {ids[0]!r} here and {key!r} there; the keys of the shards must be the "
            "clips' ids."
        )
    say(f"{location} has {len(places):,} of the {len(ids):,} test clips of {task}")
    points_n2, variance_share = plane(vectors_nE)
    raw = [labels[i] for i in places]
    return [ids[i] for i in places], raw, points_n2, variance_share
