"""Does it help on natural speech? Every run of docs/natural-speech.md, as commands.

    python -m bench.natural plan --data SHARED --out DIR           # commands, expected times, sums
    python -m bench.natural run --data SHARED --out DIR            # what is ready, one by one
    python -m bench.natural run --data SHARED --out DIR --part 0/4 # a quarter of it (array task 0)
    python -m bench.natural table --data SHARED --out DIR          # what is done, and its figures
    python -m bench.natural keep --data SHARED --out DIR --to JSON # figures, to outlive the folder

What a cell is, and how cells are carried out: `bench/cells.py`.

`--small` makes every cell as small as it can be, to see that the way is open. Its folder is another
one, because its figures mean nothing.
"""

import argparse
import gzip
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import capitals
from bench.cells import Cell, add_arguments, plan_or_run, records_of, speechkd
from bench.hearing import ACRONYMS, UNHEARD
from bench.hearing import JUDGED as STRESSED
from bench.hearing import TRAINING as ACTED
from bench.hearing_speech import Corpus, lines_of, write_clips
from bench.natural_tests import (
    QUESTIONS,
    Values,
    figures,
    hours_table,
    of_seeds,
    primary_table,
    secondary_table,
    values_of,
    with_earlier,
    write_values,
)

SEEDS = (4242, 1031, 7816, 9573, 7788)
"""Of pre-training: five for the primary comparison, the first three for all else. The last three
were the first ones of an earlier run (docs/natural-speech.md)."""
FEW = 3
AGAIN = (2718, 3141, 1618, 1414)
"""Seeds of the question that followed from figures of the others; it is asked of these alone."""
TRAINING = {**ACTED, "ocean": Corpus("speechocean762", split="train")}
"""What students hear. Never heard: six characters of the first, the test speakers of the third, and
what judges."""
HEARD = {"calls": Corpus("wuw2"), "characters": UNHEARD}
"""What `probe hearing` asks about."""
JUDGED = {"sky": STRESSED, **HEARD}
TALK = {"swda": ("swda/swda.tsv.gz", "dialogue"), "mrda": ("mrda/mrda.tsv.gz", "meeting")}
CRD = ["--kd", "crd", "--temperature", "0.1"]
WORD = [*CRD, "--level", "word"]
INFONCE = ["--kd", "infonce", "--temperature", "0.1", "--level", "word"]
SHUFFLED = ["--control", "shuffled"]
WITHIN = ["--teacher-side", "within-speaker"]
PRIMARY = {
    "none": ["--kd", "none"],
    "clip-crd": CRD,
    "clip-crd-shuffled": [*CRD, *SHUFFLED],
    "word-crd": WORD,
    "word-crd-shuffled": [*WORD, *SHUFFLED],
}
SECONDARY = {
    "clip-within": [*CRD, *WITHIN],
    "clip-within-shuffled": [*CRD, *WITHIN, *SHUFFLED],
    "clip-nst": ["--kd", "nst"],
    "clip-nst-shuffled": ["--kd", "nst", *SHUFFLED],
    "word-infonce": INFONCE,
    "word-infonce-shuffled": [*INFONCE, *SHUFFLED],
    "word-within": [*WORD, *WITHIN],
    "word-within-shuffled": [*WORD, *WITHIN, *SHUFFLED],
    "words-of-clip-shuffled": [*WORD, "--control", "shuffled-words"],
}
SYSTEMS = {
    "clip-l1": ["--kd", "l1"],
    "clip-l1-shuffled": ["--kd", "l1", *SHUFFLED],
    "both-crd": [*CRD, "--level", "clip+word"],
    "both-crd-shuffled": [*CRD, "--level", "clip+word", *SHUFFLED],
    "token-ctal": [*CRD, "--level", "token"],
    "token-ctal-shuffled": [*CRD, "--level", "token"],
    "clip-middle": CRD,
    "clip-middle-shuffled": [*CRD, *SHUFFLED],
}
"""SPLAT's alignment the other way round; both levels; what a CTAL hears per token, its control made
when it is heard; Whisper's middle layer."""
LARGER = {"word-larger": WORD, "word-larger-shuffled": [*WORD, *SHUFFLED]}
"""Whisper base instead of tiny.en: after the second run, and after all tasks that joined."""
ARMS = PRIMARY | SECONDARY | SYSTEMS | LARGER
ROWS = {
    "token-ctal": "heard",
    "token-ctal-shuffled": "heard-other",
    "word-larger": "words-larger",
    "word-larger-shuffled": "words-larger",
}
"""Caches of words or tokens of these arms; of others that need one it is `words`."""
VECTORS = {"clip-middle": "vector-middle", "clip-middle-shuffled": "vector-middle"}
"""Caches of vectors of these arms, with the same texts; of others it is `vector`."""
EVERY_LOSS = ["--losses", "mlm,mam,mmc,mmm,atm"]
WHISBERT = {
    "whisbert": EVERY_LOSS,
    "whisbert-shuffled": [*EVERY_LOSS, *SHUFFLED],
    "whisbert-twin": ["--losses", "mlm"],
}
"""Text encoders that `pretrain whisbert` trains, from the base and on the texts of all others."""
KINDS_OF_SPEECH = {"read": ("ocean",), "acted": ("urquan",)}
"""Students of one kind of speech alone: 2.9 h of reading, 4.3 h of acting."""
OF_KIND = ("none", "word-crd", "word-crd-shuffled")


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        hours: of each corpus; 0 for all of it.
        steps: the most steps of any training; 0 for all of its schedule.
        base_epochs: over talk and transcripts.
        epochs: of a student, and of CTAL, over the speech.
        whisbert_epochs: of WhisBERT and its twin, whose steps cost most.
        seeds: the most seeds of fine-tuning.
        tuning_epochs: the most of a fine-tuned classifier.
    """

    hours: float = 0.0
    steps: int = 0
    base_epochs: float = 4.0
    epochs: float = 10.0
    whisbert_epochs: float = 5.0
    seeds: int = 5
    tuning_epochs: int = 10


FULL = Sizes()
SMALL = Sizes(0.01, 4, 1.0, 1.0, 1.0, 1, 1)

BASE_STUDENT = ["--student", "bert-mini", "--vocab-size", "8000", "--learning-rate", "1e-3",
                "--batch-size", "64", "--warmup", "500"]  # fmt: skip
STUDENT = ["--batch-size", "64", "--learning-rate", "5e-4", "--warmup", "100"]
ON_CPU = ["--device", "cpu", "--precision", "bf16"]
TRAINED = ["--held-out", "0.02", *ON_CPU, "--log-every", "50", "--measure-every", "100"]
CTAL = ["--layers", "2", "--width", "128", "--heads", "4", "--stack", "4", "--normalisation",
        "corpus", "--batch-size", "16", "--learning-rate", "5e-4"]  # fmt: skip
WHISBERT_SIZES = ["--audio-layers", "1", "--fusion-layers", "2", "--width", "128", "--heads", "4",
                  "--batch-size", "64", "--learning-rate", "5e-4"]  # fmt: skip
TUNED = ["--learning-rate", "3e-4", *ON_CPU]


@dataclass(frozen=True)
class Task:
    """A question put to students: `finetune table` on one file, or another command that fine-tunes.

    Attributes:
        words: that a classifier is trained on in an epoch, of all folds together.
        epochs: of fine-tuning.
        seeds: of fine-tuning, for students of the primary comparison, for others of all speech,
            and for those of one kind of speech; 0 is not to ask them. Five folds are five
            classifiers with draws of their own.
        arguments: files and flags; `{data}` and `{out}` stand for the folders.
        primary: whether it belongs to the family that Holm's correction is over.
        command: of `finetune`.
        needs: the cell that makes the file.
    """

    words: int
    epochs: int
    seeds: tuple[int, int, int]
    arguments: str
    primary: bool = False
    command: str = "table"
    needs: str = "tables"


MEAN = "--pooling mean"
"""Students taught word by word have never been taught a first token that stands for all."""
MUSTARD = (
    "{data}/mustardpp/mustard++_text.csv --text-column SENTENCE --id-column KEY "
    f"--group-column SCENE --folds 5 --drop-duplicates {MEAN}"
)
MELD = (
    "train={data}/meld_emorynlp/train_sent_emo.csv valid={data}/meld_emorynlp/dev_sent_emo.csv "
    "test={data}/meld_emorynlp/test_sent_emo.csv --text-column Utterance "
    f"--group-column Dialogue_ID --group-per-file {MEAN}"
)
TASKS = {
    "stress": Task(
        4 * 20_605, 3, (1, 1, 1),
        "{out}/stress.csv --kind words --label-column stress --id-column id --group-column group "
        "--folds 5 --drop-duplicates",
        primary=True,
    ),
    "valence": Task(
        4 * 14_000, 3, (1, 1, 0), f"{MUSTARD} --label-column Valence --kind value", primary=True
    ),
    "arousal": Task(
        4 * 14_000, 3, (1, 0, 0), f"{MUSTARD} --label-column Arousal --kind value", primary=True
    ),
    "sarcasm": Task(4 * 14_000, 3, (1, 0, 0), f"{MUSTARD} --label-column Sarcasm"),
    "emotion": Task(80_000, 3, (1, 0, 0), f"{MELD} --label-column Emotion", primary=True),
    "intents": Task(
        14_000, 10, (1, 0, 0),
        "train={data}/slurp_text/devel.jsonl.gz test={data}/slurp_text/test.jsonl.gz "
        f"--text-column sentence --label-column intent --id-column slurp_id {MEAN}",
    ),
}  # fmt: skip
"""More can be asked by plain commands (docs/natural-speech.md lists them); these fit the budget."""
LATER_TASKS = {
    "mosei": Task(
        310_000, 1, (1, 0, 0),
        "--data {data}/cmu_mosei/MOSEI-label.csv --task sentiment --value-scale standard "
        f"{MEAN}", command="mosei",
    ),
    "sentiment": Task(80_000, 3, (1, 0, 0), f"{MELD} --label-column Sentiment"),
    "acts-telephone": Task(
        281_000, 1, (1, 0, 0),
        "{out}/acts-swda.tsv --label-column act --split-column split --group-column dialogue "
        f"{MEAN}", needs="acts",
    ),
    "acts-meetings": Task(
        172_000, 1, (1, 0, 0),
        "{out}/acts-mrda.tsv --label-column basic --split-column split --group-column meeting "
        f"{MEAN}", needs="acts",
    ),
}  # fmt: skip
"""Tasks that joined after the second run, of the primary students of the first seeds."""
TASKS_AGAIN = {"mosei": LATER_TASKS["mosei"]}
"""The question that followed from their figures."""
ACTS = {"swda": 5, "mrda": 3}
"""Of this many dialogues of training, classifiers of acts are trained on one."""
PARADIGMS, SUPPLEMENT = 67, 5
"""Files of BLiMP, and of its supplement."""
PAIRS = 100
"""Minimal pairs of each file, the first ones."""


@dataclass(frozen=True)
class Rates:
    """What a core second does, measured: docs/natural-speech.md says how. None is a claim of speed.

    Attributes:
        tokens_per_s: of masked-LM training, alone or with words taught, of a `bert-mini`.
        tuned_words_per_s: words that a classifier is trained on.
        words_heard_per_s: seconds of speech of which tiny.en tells words and their times.
        clips_heard_per_s: seconds of speech that become a vector per clip.
        mels_per_s: seconds of speech that become log-mels.
        ctal_per_s: seconds of speech that the CTAL of this study is trained on.
        whisbert_per_s: seconds of speech, with their texts, that its WhisBERT is trained on.
        heard_s: core seconds that `probe hearing` takes per student.
        sentences_per_s: whose pseudo-log-likelihood is told.
    """

    tokens_per_s: float = 2800.0
    tuned_words_per_s: float = 2000.0
    words_heard_per_s: float = 47.0
    clips_heard_per_s: float = 58.0
    mels_per_s: float = 200.0
    ctal_per_s: float = 200.0
    whisbert_per_s: float = 250.0
    heard_s: float = 9.0
    sentences_per_s: float = 100.0


RATES = Rates()
BASE_TOKENS = 3_152_739 + 115_000
"""Talk, and the transcripts of training."""
SECONDS = {"urquan": 15_326, "queen": 16_155, "ocean": 10_354, "calls": 5_616, "characters": 6_398}
WORDS = {"urquan": 36_410, "queen": 38_916, "ocean": 15_849}
TOKENS_PER_WORD = 1.3
PARTS = {"all": tuple(TRAINING), **KINDS_OF_SPEECH}
TINY = ["extract-teacher", "--teacher", "offline:tiny.en", "--context", "15s", "--max-refused",
        "0.2"]  # fmt: skip
LARGER_TEACHER = ["offline:base" if word == "offline:tiny.en" else word for word in TINY]
CACHES: dict[str, tuple[list[str], float]] = {
    "vector": ([*TINY, "--pooling", "length"], RATES.clips_heard_per_s),
    "words": ([*TINY, "--keep", "words"], RATES.words_heard_per_s),
    "vector-middle": ([*TINY, "--pooling", "length", "--layer", "2"], RATES.clips_heard_per_s),
    "words-larger": ([*LARGER_TEACHER, "--keep", "words"], RATES.words_heard_per_s / 3),
    "ctal-mel": (["extract-features", "--features", "ctal-mel"], RATES.mels_per_s),
    "whisper-mel": (["extract-features", "--features", "whisper-mel"], RATES.mels_per_s),
}
"""What is kept of the speech: the command, and seconds of speech per core second."""


def cells(data: Path, out: Path, sizes: Sizes) -> list[Cell]:
    """All cells. Each stands behind what it needs, and the primary comparison before all else."""
    here = ["--data", str(data), "--out", str(out), *(["--small"] if sizes is SMALL else [])]
    every = [
        Cell("tables", ("bench.natural", "tables", *here), core_s=20),
        Cell("acts", ("bench.natural", "acts", *here)),
    ]
    for name in TRAINING:
        every += speech(out, name, here)
        every += [ears(out, name, kind) for kind in ("vector", "words")]
    every += [merge(out, "vector"), merge(out, "words"), base(out, sizes)]
    few = SEEDS[:FEW]
    for seeds in (few, SEEDS[FEW:]):
        for run in [("all", arm, seed) for arm in PRIMARY for seed in seeds]:
            every += [student(out, *run, sizes), *questions(data, out, *run, sizes)]
    for kind in ("vector-middle", "ctal-mel", "whisper-mel"):
        every += [*(ears(out, name, kind) for name in TRAINING), merge(out, kind)]
    every += ctal(out, sizes)
    rest = [("all", arm, seed) for arm in (*SYSTEMS, *WHISBERT, *SECONDARY) for seed in few]
    rest += [(k, arm, seed) for k in KINDS_OF_SPEECH for arm in OF_KIND for seed in few]
    for part, arm, seed in rest:
        train = whisbert if arm in WHISBERT else student
        every += [train(out, part, arm, seed, sizes)]
        every += questions(data, out, part, arm, seed, sizes)
    asked = [f"all-{arm}-{seed}" for arm in PRIMARY for seed in few]
    for name in HEARD:
        every += [*speech(out, name, here), ears(out, name, "vector"), ears(out, name, "words")]
        every.append(hearing(out, name, asked))
    for arm in PRIMARY:
        for seed in few:
            every += questions(data, out, "all", arm, seed, sizes, LATER_TASKS)
    every += (minimal_pairs(data, out, run, sizes) for run in asked)
    for seed in AGAIN:
        for arm in ("word-crd", *QUESTIONS["word-crd"]):
            run = ("all", arm, seed)
            every += [student(out, *run, sizes), *questions(data, out, *run, sizes, TASKS_AGAIN)]
    every += [*(ears(out, name, "words-larger") for name in TRAINING), merge(out, "words-larger")]
    for run in [("all", arm, seed) for arm in LARGER for seed in few]:
        every += [student(out, *run, sizes), *questions(data, out, *run, sizes)]
    return every


def speech(out: Path, name: str, here: Sequence[str]) -> Iterator[Cell]:
    """Clips of a corpus, and their tars."""
    folder = out / name
    yield Cell(f"clips/{name}", ("bench.natural", "clips", name, *here), (), 60)
    yield speechkd(
        f"shard/{name}", ["shard", f"{folder}/clips.csv", "--out", f"{folder}/shards"],
        [f"clips/{name}"], 30,
    )  # fmt: skip


def ears(out: Path, name: str, kind: str) -> Cell:
    """A cache of a corpus."""
    (command, *words), per_s = CACHES[kind]
    paths = [f"{out}/{name}/shards/manifest.jsonl", "--cache", f"{out}/{name}/{kind}"]
    return speechkd(
        f"{kind}/{name}", [command, *paths, *words], [f"shard/{name}"], SECONDS[name] / per_s
    )


def merge(out: Path, kind: str) -> Cell:
    """One cache of all that students hear."""
    caches = [f"{out}/{name}/{kind}" for name in TRAINING]
    needs = [f"{kind}/{name}" for name in TRAINING]
    return speechkd(
        f"merge/{kind}", ["cache", "merge", *caches, "--out", f"{out}/all/{kind}"], needs, 10
    )


def ctal(out: Path, sizes: Sizes) -> Iterator[Cell]:
    """A CTAL from the base, and what it hears per token, of the clip and of another clip."""
    words = ["pretrain", "ctal", f"{out}/all/ctal-mel", "--text", f"{out}/base/student",
             "--out", f"{out}/ctal", "--seed", str(SEEDS[0]), "--epochs", str(sizes.epochs),
             *CTAL, *TRAINED, *limit(sizes)]  # fmt: skip
    seconds = sum(SECONDS[name] for name in TRAINING)
    yield speechkd("ctal", words, ["base", "merge/ctal-mel"],
                   sizes.epochs * seconds / RATES.ctal_per_s)  # fmt: skip
    for cache, control in (("heard", []), ("heard-other", ["--control", "shuffled-audio"])):
        yield speechkd(
            f"heard/{cache}",
            ["extract-heard", f"{out}/all/ctal-mel", "--model", f"{out}/ctal",
             "--out", f"{out}/all/{cache}", "--device", "cpu", *control],
            ["ctal"], 3 * seconds / RATES.ctal_per_s,
        )  # fmt: skip


def base(out: Path, sizes: Sizes) -> Cell:
    """The encoder that all students begin from: talk, and the transcripts of what they hear."""
    words = ["distill", f"{out}/all/vector", "--texts", f"{out}/texts.tsv", "--kd", "none",
             "--out", f"{out}/base", "--epochs", str(sizes.base_epochs), *BASE_STUDENT, *TRAINED,
             *limit(sizes)]  # fmt: skip
    core_s = sizes.base_epochs * BASE_TOKENS / RATES.tokens_per_s
    return speechkd("base", words, ["tables", "merge/vector"], core_s)


def limit(sizes: Sizes) -> list[str]:
    """Few steps, if few are wanted."""
    return ["--max-steps", str(sizes.steps)] if sizes.steps else []


def student(out: Path, part: str, arm: str, seed: int, sizes: Sizes) -> Cell:
    """One student of a part of the speech.

    All read the texts of the cache of vectors, so that pairs have equal texts; words are joined.
    """
    folder = part if part == "all" else PARTS[part][0]
    run = f"{part}-{arm}-{seed}"
    rows = ROWS.get(arm, "words" if "--level" in ARMS[arm] else "")
    vectors = VECTORS.get(arm, "vector")
    words = ["distill", f"{out}/{folder}/{vectors}", "--init", f"{out}/base/student",
             "--out", f"{out}/runs/{run}", "--seed", str(seed), "--epochs", str(sizes.epochs),
             *ARMS[arm], *(["--words", f"{out}/{folder}/{rows}"] if rows else []),
             *STUDENT, *TRAINED, *limit(sizes)]  # fmt: skip
    tokens = TOKENS_PER_WORD * sum(WORDS[name] for name in PARTS[part])
    kind = "heard" if rows.startswith("heard") else "merge"
    needs = ["base", f"merge/{vectors}", *([f"{kind}/{rows}"] if rows else [])]
    if part != "all":
        needs = ["base", f"vector/{folder}", *([f"{rows}/{folder}"] if rows else [])]
    core_s = sizes.epochs * tokens / RATES.tokens_per_s
    return speechkd(f"student/{run}", words, needs, core_s)


def whisbert(out: Path, part: str, arm: str, seed: int, sizes: Sizes) -> Cell:
    """A text encoder that WhisBERT trained from the base, on the same texts."""
    run = f"{part}-{arm}-{seed}"
    words = ["pretrain", "whisbert", f"{out}/{part}/whisper-mel",
             "--init-text", f"{out}/base/student", "--out", f"{out}/runs/{run}",
             "--seed", str(seed), "--epochs", str(sizes.whisbert_epochs),
             *WHISBERT[arm], *WHISBERT_SIZES, *TRAINED, *limit(sizes)]  # fmt: skip
    if arm == "whisbert-twin":
        core_s = sizes.whisbert_epochs * TOKENS_PER_WORD * sum(WORDS.values()) / RATES.tokens_per_s
    else:
        core_s = sizes.whisbert_epochs * sum(SECONDS[n] for n in TRAINING) / RATES.whisbert_per_s
    return speechkd(f"student/{run}", words, ["base", "merge/whisper-mel"], core_s)


def questions(
    data: Path,
    out: Path,
    part: str,
    arm: str,
    seed: int,
    sizes: Sizes,
    tasks: Mapping[str, Task] = TASKS,
) -> Iterator[Cell]:
    """The tasks that are put to a student."""
    run = f"{part}-{arm}-{seed}"
    group = 2 if part != "all" else 0 if arm in PRIMARY else 1
    for name, task in tasks.items():
        seeds = min(task.seeds[group], sizes.seeds)
        epochs = min(task.epochs, sizes.tuning_epochs)
        if seeds:
            words = task.arguments.format(data=data, out=out).split()
            yield speechkd(
                f"judge/{name}/{run}",
                ["finetune", task.command, *words, "--checkpoint", f"{run}={out}/runs/{run}",
                 "--seeds", ",".join(map(str, range(seeds))), "--epochs", str(epochs),
                 *TUNED, "--out", f"{out}/results/{name}/{run}"],
                [task.needs, f"student/{run}"],
                seeds * epochs * task.words / RATES.tuned_words_per_s,
            )  # fmt: skip


def hearing(out: Path, name: str, students: Sequence[str]) -> Cell:
    """What students tell of a corpus whose speakers none of them heard."""
    checkpoints = [w for n in students for w in ("--checkpoint", f"{n}={out}/runs/{n}")]
    words = ["probe", "hearing", f"{out}/{name}/vector", "--words", f"{out}/{name}/words",
             *checkpoints, "--device", "cpu", "--out", f"{out}/hearing-{name}"]  # fmt: skip
    needs = [f"vector/{name}", f"words/{name}", *(f"student/{n}" for n in students)]
    return speechkd(f"hearing/{name}", words, needs, RATES.heard_s * len(students))


def minimal_pairs(data: Path, out: Path, run: str, sizes: Sizes) -> Cell:
    """Which sentence of each pair a student finds likelier."""
    limit = min(PAIRS, sizes.steps or PAIRS)
    words = ["probe", "blimp", f"{data}/blimp/data", "--supplement", f"{data}/blimp_supplement",
             "--checkpoint", f"{run}={out}/runs/{run}", "--limit", str(limit),
             "--device", "cpu", "--out", f"{out}/blimp/{run}.json"]  # fmt: skip
    sentences = 2 * (PARADIGMS + SUPPLEMENT) * limit
    return speechkd(
        f"judge/blimp/{run}", words, [f"student/{run}"], sentences / RATES.sentences_per_s
    )


def talk(data: Path, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line of a table of talk as it stands, the head first, and its fields by column."""
    with gzip.open(data / TALK[name][0], "rt", encoding="utf-8") as table:
        columns: list[str] = []
        for line in table:
            fields = line.rstrip("\n").split("\t")
            columns = columns or fields
            yield line, dict(zip(columns, fields, strict=True))


def make_tables(data: Path, out: Path) -> None:
    """The talk to train on, and the lines whose stressed words are asked for."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "texts.tsv").open("w", encoding="utf-8") as file:
        file.write("recording\ttext\n")
        for name, (_, group) in TALK.items():
            file.writelines(
                f"{name}-{row[group]}\t{row['text']}\n"
                for _, row in talk(data, name)
                if row["split"] == "train"  # the others are judged on
            )
    manifest = str(data / JUDGED["sky"].folder / "manifest.tsv")
    capitals.main([manifest, "--out", str(out / "stress.csv"), "--acronyms", *ACRONYMS])


def make_acts(data: Path, out: Path) -> None:
    """Talk with its acts: some dialogues of the training part, all of the others."""
    out.mkdir(parents=True, exist_ok=True)
    for name, one_of in ACTS.items():
        lines = [(line, row["split"], row[TALK[name][1]]) for line, row in talk(data, name)]
        training = {dialogue for _, split, dialogue in lines if split == "train"}
        left_out = training - set(sorted(training)[::one_of])
        with (out / f"acts-{name}.tsv").open("w", encoding="utf-8") as file:
            file.writelines(
                line
                for line, split, dialogue in lines
                if split != "train" or dialogue not in left_out
            )


MAKERS = {"tables": make_tables, "acts": make_acts}


def make_clips(data: Path, out: Path, name: str, sizes: Sizes) -> None:
    """Lines of a corpus joined to clips, and the table of them."""
    corpus = (TRAINING | JUDGED)[name]
    write_clips(lines_of(data, corpus), out / name, sizes.hours)


def secondary_questions() -> dict[str, tuple[str, ...]]:
    """For each arm that is not primary, what it is to be better than: none, and its own twin."""
    others: dict[str, tuple[str, ...]] = {}
    for arm in (*SYSTEMS, "whisbert", *SECONDARY, *LARGER):
        if not arm.endswith("-shuffled"):
            none = "whisbert-twin" if arm == "whisbert" else "none"
            others[arm] = (none, f"{arm}-shuffled")
    others["both-crd"] += ("word-crd",)
    others["word-larger"] += ("word-crd",)
    others["word-crd"] = ("words-of-clip-shuffled", "clip-crd")
    for kind in KINDS_OF_SPEECH:
        others[f"{kind}-word-crd"] = (f"{kind}-none", f"{kind}-word-crd-shuffled")
    return others


def secondary_tables(values: Values) -> str:
    """All that is not primary: systems, objectives and kinds of speech, other tasks, and hours."""
    asked = (
        (("stress", "valence"), secondary_questions()),
        (("arousal", "emotion"), {"word-crd": ("clip-crd",)}),
        (("sarcasm", "intents"), QUESTIONS),
        (("mosei", "sentiment"), QUESTIONS),
        (("acts-telephone", "acts-meetings"), QUESTIONS),
        (("blimp", "supplement"), QUESTIONS),
    )
    first = of_seeds(values, lambda seed: seed not in AGAIN)
    again = of_seeds(values, lambda seed: seed in AGAIN)
    tables = [secondary_table(first, *one) for one in asked]
    tables.append(secondary_table(again, [*TASKS_AGAIN], {"word-crd": QUESTIONS["word-crd"]}))
    hours = {f"{kind}-": sum(SECONDS[n] for n in of) / 3600 for kind, of in KINDS_OF_SPEECH.items()}
    hours[""] = sum(SECONDS[name] for name in TRAINING) / 3600
    return "\n\n".join([*tables, hours_table(first, hours)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["plan", "run", "table", "keep", *MAKERS, "clips"])
    parser.add_argument("name", nargs="?", help="of a corpus, for clips")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    add_arguments(parser)
    parser.add_argument("--small", action="store_true", help="the smallest sizes: no figure counts")
    parser.add_argument("--to", type=Path, help="JSON file that figures are kept in")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[], help="such files, for table")
    options = parser.parse_args()
    sizes = SMALL if options.small else FULL
    if options.what in MAKERS:
        MAKERS[options.what](options.data, options.out)
    elif options.what == "clips":
        make_clips(options.data, options.out, options.name, sizes)
    else:
        every = cells(options.data, options.out, sizes)
        if options.what in {"plan", "run"}:
            return plan_or_run(options, every)
        done = records_of(options.out, every)
        values = values_of(options.out, done)
        if options.what == "keep":
            if not options.to:
                parser.error("keep needs --to FILE.json")
            write_values(values, options.to)
            return 0
        plan_or_run(options, every)
        values = with_earlier(values, options.earlier)
        print(f"\n{primary_table(values)}\n\n{secondary_tables(values)}\n\n"
              f"{figures(options.out, done)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
