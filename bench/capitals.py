r"""Lines that write stressed words in CAPITALS → a table for `finetune table --kind words`.

    python -m bench.capitals MANIFEST.tsv --out stress.csv --acronyms LINC ID
    speechkd finetune table stress.csv --kind words --label-column stress --id-column id \
        --group-column group --folds 5 --checkpoint runs/crd --out results

The table has the texts in small letters, and for each word 1 if all its letters were capitals, 0 if
not, and - where that cannot be told: words without two letters (such as I), and acronyms. Lines in
capitals alone are left out: they are loud, and no word stands out.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.foundation.atomic import write_text
from pipeline.foundation.tables import read_rows
from pipeline.reports.formats import to_csv

COLUMNS = ("id", "group", "text", "stress")


def letters_of(word: str) -> str:
    return "".join(letter for letter in word if letter.isalpha())


def marks_of(words: Sequence[str], acronyms: frozenset[str] = frozenset()) -> list[str] | None:
    """1, 0 or - for each word of a line; None if the line has no word in small letters."""
    marks = []
    for word in words:
        letters = letters_of(word)
        capitals = letters == letters.upper()
        unknown = len(letters) < 2 or (capitals and letters in acronyms)
        marks.append("-" if unknown else "1" if capitals else "0")
    return None if "1" in marks and "0" not in marks else marks


def groups_of(names: Sequence[str], pattern: str, gap: int) -> Iterator[str]:
    """The group of each line: what a pattern finds in its name, and from one gap in the numbers at
    the end of the names to the next.

    Args:
        names: of the lines, in their order.
        pattern: its first group, or all that it finds, is the beginning of the group's name.
        gap: the numbers of lines of one conversation differ by at most this from line to line; 0
            to look at no numbers.
    """
    begun: tuple[str, str] = ("", "")
    last = 0
    for name in names:
        match = re.search(pattern, name)
        begin = (match.group(1) if match.re.groups else match.group()) if match else ""
        digits = re.findall(r"\d+", name)
        number = int(digits[-1]) if digits else 0
        if begin != begun[0] or not begun[1] or (gap and not 0 < number - last <= gap):
            begun = (begin, name)
        last = number
        yield f"{begin}:{begun[1]}" if gap else begin


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="a table with the texts (CSV, TSV, JSON lines)")
    parser.add_argument("--out", type=Path, required=True, help="the table to write")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--id-column", default="utt_id")
    parser.add_argument(
        "--group-pattern", default="", help="regular expression that finds the group in the id"
    )
    parser.add_argument(
        "--group-gap", type=int, default=3,
        help="a rise by more than this in the number of an id begins a group; 0: numbers do not",
    )  # fmt: skip
    parser.add_argument("--acronyms", nargs="*", default=[], help="words that are always capitals")
    options = parser.parse_args(arguments)
    _, placed = read_rows(options.manifest)
    rows = [row for _, row in placed]
    acronyms = frozenset(letters_of(word).upper() for word in options.acronyms)
    names = [str(row[options.id_column]) for row in rows]
    grid: list[Sequence[str]] = [COLUMNS]
    counts: Counter[str] = Counter()
    capitals: Counter[str] = Counter()
    small: set[str] = set()
    groups = groups_of(names, options.group_pattern, options.group_gap)
    for name, group, row in zip(names, groups, rows, strict=True):
        words = str(row[options.text_column]).split()
        marks = marks_of(words, acronyms)
        if marks is None:
            counts["lines in capitals alone, left out"] += 1
            continue
        for word, mark in zip(words, marks, strict=True):
            letters = letters_of(word).upper()
            capitals[letters] += mark == "1"
            small |= {letters} if mark == "0" else set()
            counts[f"words marked {mark}"] += 1
        counts["lines"] += 1
        counts["lines with a stressed word"] += "1" in marks
        grid.append((name, group, " ".join(words).lower(), " ".join(marks)))
    counts["groups"] = len({line[1] for line in grid[1:]})
    write_text(options.out, to_csv(grid))
    for what, count in counts.items():
        print(f"{what}: {count:,}")
    always = [f"{word} ({n})" for word, n in capitals.most_common() if n > 2 and word not in small]
    print(f"always in capitals (acronyms?): {', '.join(always[:40])}")


if __name__ == "__main__":
    main()
