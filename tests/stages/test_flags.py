"""Every command's flags are listed in flags.txt: one more, or one less, is a decision.

Before a flag is added: would a default do, or a flag that is there? Before one goes or changes its
name: the old spelling is refused with the new one named, and CHANGELOG.md says so.

    python -m tests.stages.test_flags > tests/stages/flags.txt
"""

from pathlib import Path

import typer

from stages.cli import app


def flags(group, words: tuple[str, ...] = ()) -> str:
    """Each command with its arguments and flags, as --help shows them, one per line."""
    text = ""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            text += flags(command, (*words, name))
            continue
        shown = (p for p in command.params if not getattr(p, "hidden", False))
        names = (p.opts[0] if p.opts[0].startswith("-") else p.name.upper() for p in shown)
        text += " ".join((*words, name)) + "".join(f"\n    {flag}" for flag in sorted(names)) + "\n"
    return text


def test_the_flags_are_those_of_the_list():
    listed = (Path(__file__).parent / "flags.txt").read_text(encoding="utf-8")
    assert flags(typer.main.get_command(app)) == listed


if __name__ == "__main__":
    print(flags(typer.main.get_command(app)), end="")
