"""Compare the sentences of minimal pairs by masked-LM encoders, without any training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.tasks.pair_answers import Answers


@dataclass(frozen=True, kw_only=True)
class BlimpSettings(Settings):
    """Settings of `speechkd probe blimp`."""

    data: Path = setting(
        help="Folder of BLiMP: one .jsonl file per paradigm, or one .json file per field as "
        "BabyLM had them in 2023.",
        argument=True,
    )
    checkpoint: list[str] = setting(
        help="Masked-LM encoder, PATH or NAME=PATH: a run, a Hugging Face folder or a hub id; may "
        "be repeated. Each is compared with the first one.",
    )
    supplement: Path | None = setting(
        None,
        help="Folder of BabyLM's supplement (hypernym.jsonl and four more). Its five sets have "
        "lines and a mean of their own and never enter BLiMP's.",
    )
    by: Literal["field", "term", "paradigm"] = setting(
        "field",
        help="What a line of the table is: one of the 12 fields that papers report, over its "
        "pairs; one of BLiMP's 13 terms, or a paradigm.",
    )
    beside: Literal["nothing", "paper"] = setting(
        "nothing",
        help="paper: print Table 1 of the WhisBERT paper beside, its baselines corrected.",
    )
    out: Path | None = setting(
        None,
        help="A JSON file for all accuracies, the decision on every pair, and the differences.",
    )
    limit: int = setting(0, help="Pairs to read of each file; 0 for all.", unit="pairs", minimum=0)
    masking: Literal["token", "word-l2r"] = setting(
        "token",
        help="What is masked with each token: nothing else (Salazar et al. 2020), or the later "
        "tokens of its word (PLL-word-l2r, Kauf & Ivanova 2023), which does not favour words of "
        "many tokens.",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to run; auto takes a GPU if there is one."
    )

    def check(self) -> None:
        """Check that there are encoders and that the result can be written."""
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        if self.out and self.out.is_dir():
            raise SpeechkdError(f"--out {self.out} is a folder; name a file, as results.json.")
        if self.beside == "paper" and (self.by, self.masking) != ("field", "token"):
            raise SpeechkdError(
                "--beside paper: its figures are of fields, each token masked alone. Use --by "
                "field and --masking token."
            )


def run(settings: BlimpSettings) -> None:
    """Ask masked-LM encoders which sentence of each minimal pair is grammatical.

    An encoder's answer is the sentence with the higher pseudo-log-likelihood; a tie counts one
    half. Figures are in %: of a field over its pairs, and below them the means over fields, pairs
    and paradigms. A coin gives 50, and choosing the shorter sentence gives what the column beside
    says. With several encoders a second table compares each with the first one, pair by pair.

    Example: speechkd probe blimp blimp --checkpoint runs/none --checkpoint runs/crd
    """
    from pipeline.foundation.devices import device_named, ieee_float32
    from pipeline.foundation.progress import Meter, say
    from pipeline.models.encoders import check_labels, load_masked_lm
    from pipeline.models.unknown import measure_unknown
    from pipeline.tasks.minimal_pairs import log_likelihoods
    from pipeline.tasks.pair_answers import BLIMP, SUPPLEMENT, Answer, Answers
    from pipeline.tasks.pair_files import read_pairs, read_supplement
    from pipeline.tasks.pair_scores import decisions, shorter_sentence, tokens

    device = device_named(settings.device)
    if settings.out:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
    sets = {BLIMP: read_pairs(settings.data, settings.limit)}
    if settings.supplement:
        sets[SUPPLEMENT] = read_supplement(settings.supplement, settings.limit)
    answers = Answers(sets)
    pairs = answers.pairs
    texts = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    check_labels(settings.checkpoint)
    for checkpoint in dict.fromkeys(settings.checkpoint):
        pretrained, student, tokenizer = load_masked_lm(checkpoint)
        label = pretrained.label
        student.to(device)
        unknown = {
            name: measure_unknown(tokenizer, [text for p in some for text in (p.good, p.bad)])
            for name, some in sets.items()
        }
        for name, one in unknown.items():
            say(f"{'WARNING: ' if one.too_many else ''}{label}: {name}: {one}")
        with Meter(label, len(texts), "sentences") as meter, ieee_float32():
            values = log_likelihoods(
                student, tokenizer, texts, meter.advance, masking=settings.masking
            )
        answers.of[label] = Answer(
            decided_n=decisions(pairs, values[: len(pairs)], values[len(pairs) :]),
            shorter_n=shorter_sentence(pairs, tokens(tokenizer, texts)),
            encoder=pretrained.record(),
            unknown=unknown,
        )
    _show(settings, answers)
    if settings.out:
        _write(settings, answers, settings.out)


def _show(settings: BlimpSettings, answers: "Answers") -> None:
    """Print the accuracies, then the differences from the first encoder."""
    from pipeline.tasks.blimp import CORRECTION, PAPER, PAPERS_EDITION
    from pipeline.tasks.pair_table import (
        CONTRAST_HEADER,
        contrast_lines,
        differ,
        header,
        lines,
        padded,
    )

    columns, paper = answers.columns(), settings.beside == "paper"
    twice = settings.by == "field" and differ(columns)
    shown = [*columns, answers.by_words()]
    names = ["", *header(shown, twice=twice, paper=paper)]
    rows = lines(shown, settings.by, twice=twice, paper=paper)
    for name in answers.sets:
        shares = [one.unknown[name].percentage.removesuffix(" %") for one in answers.of.values()]
        cells = [f"unknown tokens, {name}", *padded(shares, twice=twice)]
        rows.append([*cells, *[""] * (len(names) - len(cells))])
    cells = ["ties", *padded([f"{one.scores.ties:,}" for one in columns], twice=twice)]
    rows.append([*cells, *[""] * (len(names) - len(cells))])
    editions = answers.editions()
    else_ = f"the first {settings.limit} of each file" if settings.limit else "no known edition"
    told = "; ".join(
        f"{name}, {len(some):,} pairs ({editions[name] or else_})"
        for name, some in answers.sets.items()
    )
    _print(f"{told}; accuracy in %", names, rows)
    if paper:
        print(f"{PAPER}, of {PAPERS_EDITION}. {CORRECTION}")
        if set(editions.values()) != {PAPERS_EDITION}:
            print("Ours are of other pairs than the paper's, so small differences say nothing.")
    for other, by_set in answers.contrasts().items():
        rows = [
            line
            for name, one in by_set.items()
            for line in contrast_lines({f if f != "all" else f"all of {name}": one[f] for f in one})
        ]
        _print(f"{other} less {next(iter(answers.of))}, over pairs", CONTRAST_HEADER, rows)


def _write(settings: BlimpSettings, answers: "Answers", path: Path) -> None:
    """Write all of it as JSON."""
    from pipeline.foundation.atomic import write_json
    from pipeline.foundation.provenance import record
    from pipeline.tasks.blimp import COLUMNS, CORRECTION, PAPER, PUBLISHED
    from pipeline.tasks.minimal_pairs import DEFINITIONS

    paper = {
        "source": PAPER,
        "columns": list(COLUMNS),
        "correction": CORRECTION,
        "figures": PUBLISHED,
    }
    content = {
        "definition": DEFINITIONS[settings.masking],
        "masking": settings.masking,
        "limit": settings.limit,
        **answers.record(),
        **({"paper": paper} if settings.beside == "paper" else {}),
        "provenance": record(),
    }
    write_json(path, content)


def _print(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as it needs, so that no figure is cut."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        natural = Measurement.get(console, console.options.update(width=10_000), table).maximum
        console.width = max(console.width, natural)
    console.print(table)


COMMANDS = {"probe blimp": (BlimpSettings, run)}
