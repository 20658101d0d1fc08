"""Which word did the actor stress? Students of natural speech, asked from lower-cased text alone.

    python -m bench.hearing speech --data SHARED --out DIR     # clips, tars, what the teacher hears
    python -m bench.hearing students --out DIR --seeds 1
    python -m bench.hearing stress --out DIR                   # linear probes, and fine-tuning
    python -m bench.hearing table --out DIR
    python -m bench.hearing unheard --data SHARED --out DIR    # clips for `speechkd probe hearing`

All goes through the commands' own code. What is finished is never made again, so that the same
command carries on. docs/hearing.md describes the experiment and its figures.
"""

import argparse
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers.utils import logging as transformers_logging

from bench import capitals
from bench.hearing_speech import Corpus, heard_words, lines_of, write_clips
from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.settings import ExtractSettings, FeatureSettings
from pipeline.finetuning.projection import vectors
from pipeline.finetuning.settings import Recipe
from pipeline.finetuning.word_inputs import WordInputs
from pipeline.foundation.atomic import write_json
from pipeline.foundation.progress import say
from pipeline.foundation.provenance import git_commit
from pipeline.models.encoders import load_pretrained
from pipeline.reports.comparison import Difference, Side, difference
from pipeline.reports.predictions import Predictions, WordAnswers
from pipeline.shards.settings import ShardSettings
from pipeline.tasks.labelled import Division, Labelled, read_labelled
from pipeline.tasks.labelled_rows import LabelColumns, Source
from pipeline.tasks.words import RANKED, best_threshold, ranked
from stages import cache, distill, extract_features, extract_teacher, finetune_table, shard

HELD_OUT = ("ilwrath", "melnorme", "pkunk", "syreen", "yehat", "yehatrebels")
"""Characters of the training corpus that no student reads, for `probe hearing`."""
TRAINING = {
    "urquan": Corpus("ur_quan_masters", without=HELD_OUT),
    "queen": Corpus("flight_of_the_amazon_queen", scene_letters=2),
}
UNHEARD = Corpus("ur_quan_masters", only=HELD_OUT)
JUDGED = Corpus("beneath_a_steel_sky", scene_letters=3)
ACRONYMS = ["LINC", "D-LINC", "LINC-SPACE", "ID", "WD"]
"""Names of the judged script that are always in capitals, and no words that are stressed."""
SEEDS = (7816, 9573, 7788)
STUDENT: dict[str, Any] = {
    "student": "bert-tiny", "vocab_size": 8000, "epochs": 30.0, "batch": 64, "learning_rate": 1e-3,
    "device": "cpu", "log_every": 100, "measure_every": 100, "checkpoint_minutes": 0.0,
    "held_out": 0.0,
}  # fmt: skip
CRD: dict[str, Any] = {"kd": ["crd"], "temperature": 0.1}
WORD = {**CRD, "level": "word"}
WITHIN = {**WORD, "teacher_side": "within-word"}
ARMS: dict[str, dict[str, Any]] = {
    "none": {"kd": ["none"]},
    "crd-word": WORD,
    "crd-word-shuffled": {**WORD, "control": "shuffled"},
    "crd-clip": CRD,
    "crd-clip-shuffled": {**CRD, "control": "shuffled"},
    "crd-word-shuffled-words": {**WORD, "control": "shuffled-words"},
    "within-word": WITHIN,
    "within-word-shuffled": {**WITHIN, "control": "shuffled"},
    "infonce-word": {**WORD, "kd": ["infonce"]},
    "infonce-word-shuffled": {**WORD, "kd": ["infonce"], "control": "shuffled"},
}
TWINS = {
    "crd-word": ("none", "crd-word-shuffled", "crd-word-shuffled-words"),
    "crd-clip": ("none", "crd-clip-shuffled"),
    "within-word": ("none", "within-word-shuffled"),
    "infonce-word": ("none", "infonce-word-shuffled"),
}
FINE_TUNING: dict[str, Any] = {
    "epochs": 5,
    "learning_rate": 3e-4,
    "device": "cpu",
    "text_form": "as-is",
}
FOLDS = 5
PROBE = "logistic regression (C = 0.01) on standardised states of the last layer, mean over tokens"


def make_speech(data: Path, out: Path, teacher: str, hours: float, training: list[str]) -> None:
    """Join lines, cut tars, and let the teacher hear words, and of training also clips."""
    hear(data, out / "judged", JUDGED, teacher, 0.0, ["words"])
    for name in training:
        hear(data, out / name, TRAINING[name], teacher, hours, ["words", "vector"])
    manifest = str(data / JUDGED.folder / "manifest.tsv")
    capitals.main([manifest, "--out", str(out / "stress.csv"), "--acronyms", *ACRONYMS])


def hear(
    data: Path,
    folder: Path,
    corpus: Corpus,
    teacher: str,
    hours: float,
    kinds: Sequence[Literal["words", "vector"]],
) -> None:
    """Clips of a corpus, their tars, and what the teacher heard in them."""
    if not (folder / "lines.json").exists():
        table = write_clips(lines_of(data, corpus), folder, hours)
        shard.run(ShardSettings(source=str(table), out=folder / "shards"))
    for keep in kinds:
        extract_teacher.run(
            ExtractSettings(
                manifest=str(folder / "shards" / "manifest.jsonl"), cache=str(folder / keep),
                teacher=teacher, keep=keep, context="15s", max_refused=0.1,
                pooling="length" if keep == "vector" else "fixed750",
            )
        )  # fmt: skip


def make_unheard(data: Path, out: Path, teacher: str, hours: float) -> None:
    """Clips of the characters that no student reads, for `speechkd probe hearing`."""
    folder = out / "unheard"
    hear(data, folder, UNHEARD, teacher, hours, ["words", "vector"])
    manifest = str(folder / "shards" / "manifest.jsonl")
    extract_features.run(
        FeatureSettings(
            manifest=manifest, cache=str(folder / "prosody"), features="prosody", workers=1
        )
    )


def train(out: Path, arm: str, seed: int, epochs: float = STUDENT["epochs"]) -> Path:
    """Distil a student of all training corpora; the run's folder.

    A run that is finished is not trained again, and one of other epochs is refused.
    """
    run = out / "runs" / f"{arm}-{seed}"
    settings = ARMS[arm]
    kind = "vector" if settings.get("level", "clip") == "clip" and arm != "none" else "words"
    distill.run(
        DistillSettings(
            cache=str(out / f"training-{kind}"),
            out=run,
            seed=seed,
            **{**STUDENT, "epochs": epochs},
            **settings,
        )
    )
    return run


def merge(out: Path, training: list[str]) -> None:
    """One cache of each kind over the training corpora."""
    for kind in ("words", "vector"):
        whole = out / f"training-{kind}"
        parts = [str(out / name / kind) for name in training if (out / name / kind).exists()]
        if parts and not whole.exists():
            cache.merge(cache.MergeSettings(caches=parts, out=str(whole)))


def judged(out: Path) -> Labelled:
    """The lines that are judged, in their folds."""
    columns = LabelColumns("text", "stress", "id", "group")
    division = Division(folds=FOLDS, drop_duplicates=True)
    return read_labelled([Source(out / "stress.csv")], columns, "words", division)


def probe(out: Path, table: Labelled, name: str, states_nD: np.ndarray) -> None:
    """Answers of a linear probe in folds: it learns from four of them, and is judged on the fifth.

    Args:
        out: the folder.
        table: the lines.
        name: of what the states are of; the answers go to `probes/NAME.json`.
        states_nD: a row per word that is asked of, in the table's order; not a number where
            there is none, which becomes the mean.
    """
    counts = np.array([len(text.places) for text in table.words])
    first = np.cumsum(counts) - counts
    known_n = np.isfinite(states_nD).all(1)
    margins: dict[str, float] = {}
    for question in table.questions:
        places = {
            split: np.concatenate([first[i] + np.arange(counts[i]) for i in inside])
            for split, inside in question.places.items()
            if len(inside)
        }
        train_nD = states_nD[places["train"]]
        mean_D, std_D = np.nanmean(train_nD, 0), np.nanstd(train_nD, 0) + 1e-6
        scaled = {
            split: np.nan_to_num((states_nD[at] - mean_D) / std_D, nan=0.0)
            for split, at in places.items()
        }
        model = LogisticRegression(C=0.01, max_iter=300)
        model.fit(scaled["train"], question.labels["train"])
        raw = {split: model.decision_function(x_nD) for split, x_nD in scaled.items()}
        threshold = best_threshold(question.labels["train"], raw["train"])
        ids = question.words["test"].ids
        margins |= dict(zip(ids, (raw["test"] - (threshold or 0.0)).tolist(), strict=True))
    path = out / "probes" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"commit": git_commit(), "known": float(known_n.mean()), "margins": margins})


def teacher_states(data: Path, out: Path, table: Labelled) -> np.ndarray:
    """The teacher's vector of each word that is asked of; not a number where it has none."""
    teacher = heard_words(out / "judged", data, JUDGED)
    words = [(row.id, n) for row, text in zip(table.rows, table.words, strict=True)
             for n in text.places]  # fmt: skip
    states_nE = np.full((len(words), teacher.rows_NE.shape[1]), np.nan, np.float32)
    for place, word in enumerate(words):
        if word in teacher.row_of:
            states_nE[place] = teacher.rows_NE[teacher.row_of[word]]
    return states_nE


def encoder_states(run: Path, table: Labelled, *, untrained: bool = False) -> np.ndarray:
    """An encoder's state of each word that is asked of, as it is before any fine-tuning."""
    _, encoder, tokenizer = load_pretrained(str(run))
    if untrained:
        torch.manual_seed(0)
        encoder.apply(forget)
    recipe = finetune_settings(run.parent, [str(run)]).part(Recipe, precision="float32")
    inputs = WordInputs.of_words(table.words, recipe, encoder, tokenizer)
    answers = [len(text.places) for text in table.words]
    return vectors(encoder, inputs, range(len(table.words)), answers)


def forget(module: torch.nn.Module) -> None:
    """Give a module the weights that BERT begins with."""
    if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
        torch.nn.init.normal_(module.weight, std=0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, torch.Tensor):
            torch.nn.init.zeros_(bias)
    elif isinstance(module, torch.nn.LayerNorm):
        module.reset_parameters()


def finetune_settings(out: Path, runs: list[str]) -> finetune_table.TableSettings:
    return finetune_table.TableSettings(
        data=[str(out / "stress.csv")], kind="words", label_column="stress", id_column="id",
        group_column="group", folds=FOLDS, drop_duplicates=True, checkpoint=runs, seeds="0",
        out=out / "finetuned", **FINE_TUNING,
    )  # fmt: skip


def finished_runs(out: Path) -> Iterator[tuple[str, int, Path]]:
    """Arm, seed and folder of the students that are there."""
    for seed in SEEDS:
        for arm in ARMS:
            run = out / "runs" / f"{arm}-{seed}"
            if (run / "student" / "model.safetensors").exists():
                yield arm, seed, run


def ask(data: Path, out: Path, *, fine_tune: bool) -> None:
    """Probe the teacher and every student, and fine-tune every student."""
    table = judged(out)
    probes = out / "probes"
    if not (probes / "teacher.json").exists():
        states_nE = teacher_states(data, out, table)
        probe(out, table, "teacher", states_nE)
    for arm, seed, run in finished_runs(out):
        if not (probes / f"{arm}-{seed}.json").exists():
            probe(out, table, f"{arm}-{seed}", encoder_states(run, table))
        if arm == "none" and not (probes / f"untrained-{seed}.json").exists():
            states_nD = encoder_states(run, table, untrained=True)
            probe(out, table, f"untrained-{seed}", states_nD)
    if fine_tune:
        runs = [f"{arm}-{seed}={run}" for arm, seed, run in finished_runs(out)]
        finetune_table.run(finetune_settings(out, runs))


def answers_of(table: Labelled, margins: Mapping[str, float] | None) -> Predictions:
    """The answers of a probe to all folds together; of None those of each word alone."""
    ids: list[str] = []
    groups: list[str] = []
    texts: list[str] = []
    labels: list[float] = []
    mine: list[float] = []
    alone: list[float] = []
    all_groups = [row.group for row in table.rows]
    for question in table.questions:
        words = question.words["test"]
        ids += words.ids
        groups += question.repeat("test", all_groups)
        texts += question.repeat("test", [row.id for row in table.rows])
        labels += question.labels["test"].tolist()
        alone += words.prior_n.tolist()
        mine += words.prior_n.tolist() if margins is None else [margins[i] for i in words.ids]
    margins_n = np.array(mine)
    return Predictions(
        tuple(ids), tuple(groups), np.array(labels), (margins_n > 0).astype(float),
        WordAnswers(tuple(texts), margins_n, np.array(alone)),
    )  # fmt: skip


def figures(one: Predictions) -> dict[str, float | None]:
    words = one.words
    if words is None:
        return dict.fromkeys(RANKED)
    return ranked(one.labels, words.margins, words.text_n)


def per_cent(values: Sequence[float | None]) -> str:
    """Mean of shares in per cent, and their spread; a dash where one of them is not defined."""
    defined = [100 * value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return "–"
    spread = f" ± {np.std(defined, ddof=1):.1f}" if len(defined) > 1 else ""
    return f"{np.mean(defined):.1f}{spread}"


def tables(out: Path) -> str:
    """Figures of the probes, and their differences, in per cent, as Markdown."""
    table = judged(out)
    sides: dict[str, dict[str, dict[int, Predictions]]] = {}
    for path in sorted((out / "probes").glob("*.json")):
        arm, _, seed = path.stem.rpartition("-")
        margins = json.loads(path.read_text(encoding="utf-8"))["margins"]
        name, run = (arm, seed) if seed.isdecimal() else (path.stem, "0")
        sides.setdefault(name, {})[run] = {0: answers_of(table, margins)}
    alone = answers_of(table, None)
    of_alone = figures(alone)
    constant = figures(answers_of(table, dict.fromkeys(alone.ids, 1.0)))
    lines = [
        f"| what is probed | {' | '.join(RANKED.values())} | students |",
        "|---|--:|--:|--:|--:|",
        f"| constant answer | {' | '.join(per_cent([constant[n]]) for n in RANKED)} | – |",
        f"| the word alone | {' | '.join(per_cent([of_alone[n]]) for n in RANKED)} | – |",
    ]
    order = ["teacher", "untrained", *ARMS]
    for arm in [name for name in order if name in sides]:
        each = [figures(run[0]) for run in sides[arm].values()]
        cells = [per_cent([one[n] for one in each]) for n in RANKED]
        lines.append(f"| {arm} | {' | '.join(cells)} | {len(each) if arm != 'teacher' else '–'} |")
    lines += [
        "",
        "| compared | average precision | top-1 | pre-training seeds |",
        "|---|---|---|--:|",
    ]
    pairs = [(arm, other) for arm, others in TWINS.items() for other in others]
    for arm, other in [("none", "untrained"), *pairs]:
        if arm in sides and other in sides:
            lines.append(row_of(arm, other, sides[arm], sides[other]))
    for arm in [name for name in order if name in sides]:
        prior = {run: {0: alone} for run in sides[arm]}
        lines.append(row_of(arm, "the word alone", sides[arm], prior))
    return "\n".join(lines)


def row_of(arm: str, other: str, first: Side, second: Side) -> str:
    runs = sorted(first.keys() & second.keys())
    sides = [{run: side[run] for run in runs} for side in (first, second)]
    cells = [
        gain_of(difference(sides[0], sides[1], measure))
        for measure in ("average_precision", "top1")
    ]
    return f"| {arm} over {other} | {' | '.join(cells)} | {len(runs)} |"


def gain_of(one: Difference | None) -> str:
    """A difference in points with its interval; a dash of none."""
    if one is None:
        return "–"
    return f"{100 * one.mean:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speech", "unheard", "students", "stress", "table"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", default="offline:tiny.en")
    parser.add_argument("--training", nargs="*", default=list(TRAINING), help="training corpora")
    parser.add_argument("--hours", type=float, default=0.0, help="of each training corpus; 0: all")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of pre-training")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), help="names of the students")
    parser.add_argument("--epochs", type=float, default=STUDENT["epochs"])
    parser.add_argument("--no-fine-tuning", action="store_true", help="linear probes alone")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message="lbfgs failed to converge")
    if options.what == "speech":
        make_speech(options.data, options.out, options.teacher, options.hours, options.training)
    elif options.what == "students":
        merge(options.out, options.training)
        for seed in SEEDS[: options.seeds]:
            for arm in options.arms:
                say(f"student {arm}, seed {seed}")
                train(options.out, arm, seed, options.epochs)
    elif options.what == "unheard":
        make_unheard(options.data, options.out, options.teacher, options.hours)
    elif options.what == "stress":
        ask(options.data, options.out, fine_tune=not options.no_fine_tuning)
    else:
        print(tables(options.out))


if __name__ == "__main__":
    main()
