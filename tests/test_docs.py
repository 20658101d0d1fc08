"""Every page: its links lead somewhere, and its commands and flags exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from stages.cli import app
from tests.test_architecture import ALLOWED

ROOT = Path(__file__).parent.parent
HIDDEN = {"build", "dist", "runs", "demo-out"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in HIDDEN for part in path.relative_to(ROOT).parts)
)
COMMANDS = typer.main.get_command(app)
USAGE_ERROR = typer.BadParameter.__base__


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


GUIDE = ROOT / "tests" / "README.md"  # its paths are relative to tests/, and have a test below
WRITTEN_LATER = {"bench/results"}


@pytest.mark.parametrize("page", [page for page in PAGES if page != GUIDE], ids=named)
def test_every_path_of_the_repository_and_every_module_on_the_page_exists(page):
    folders = "bench|data_manifests|docs|pipeline|stages|tests"
    paths = set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", text_of(page)))
    modules = re.findall(rf"python -m ((?:{folders})[\w.]*)", text_of(page))
    assert {path for path in paths - WRITTEN_LATER if not (ROOT / path).exists()} == set()
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_index_lists_every_page_of_docs():
    index = text_of(ROOT / "docs" / "README.md")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\((\w[\w.-]*\.md)\)", index))


def commands_on(page: Path) -> list[list[str]]:
    """The words after `speechkd` of each command in a page's code blocks."""
    commands = []
    for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text_of(page), flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?speechkd ", line):
                words = shlex.split(line.removeprefix("$ "), comments=True)[1:]
                pairs = zip(
                    ["", *words], words, strict=False
                )  # `--flag …` has a value, … alone none
                commands.append([w for before, w in pairs if w != "…" or before.startswith("--")])
    return commands


def refusal(words: list[str]) -> str:
    """What the command line says to words, without running anything; empty if it takes them."""
    command = COMMANDS
    words = list(words)
    while hasattr(command, "commands"):
        name = words.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    if "--help" in words:
        return ""
    try:
        command.make_context(command.name, words)
    except USAGE_ERROR as error:
        if "Missing" in error.format_message():  # a line that shows a part of a command
            return ""
        return error.format_message()
    return ""


def handed_on(words: list[str]) -> list[list[str]]:
    """The commands that `speechkd slurm STAGE … -- WORDS` submits."""
    first, *groups = (list(part) for part in split(words, "--"))
    if first[:1] != ["slurm"] or not groups:
        return []
    if first[1] == "all":
        return groups
    method = first[1].removeprefix("pretrain-")
    command = [first[1]] if method == first[1] else ["pretrain", method]
    return [[*command, *group] for group in groups]


def split(words: list[str], mark: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == mark:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


@pytest.mark.parametrize("page", [page for page in PAGES if commands_on(page)], ids=named)
def test_every_command_and_flag_on_the_page_exists(page):
    wrong = {}
    for words in commands_on(page):
        for command in (words, *handed_on(words)):
            if said := refusal(command):
                wrong[" ".join(command)] = said
    assert wrong == {}


def test_commands_that_do_not_exist_are_noticed():
    assert refusal(["distill", "cache", "--out", "run", "--no-such-flag", "3"])
    assert refusal(["finetune", "nothing"])
    assert refusal(["distill", "cache", "--out", "run", "--precision", "float7"])
    words = ["slurm", "distill", "--run", "RUN", "--", "RUN/cache", "--no-such-flag"]
    assert [refusal(command) for command in handed_on(words)] != [""]
    assert refusal(["distill", "cache", "--out", "run", "--epochs", "4"]) == ""


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == project["name"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    for author in citation["preferred-citation"]["authors"]:
        assert author["family-names"] in text_of(ROOT / "README.md")
    assert f"## {project['version']}" in text_of(ROOT / "CHANGELOG.md")


def test_the_guide_to_the_tests_covers_every_module():
    guide = text_of(GUIDE).partition("## Modules without")[2]
    table = dict(re.findall(r"^\| `([\w/]+\.py)` \| (.+) \|$", guide, flags=re.M))
    for tests in table.values():
        for test in tests.split(", "):
            assert (ROOT / "tests" / test).is_file(), test
    modules = [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")]
    without = {
        named(path).removeprefix("pipeline/")
        for path in modules
        if path.name != "__init__.py"
        and not (ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}").exists()
    }
    assert without == set(table)


def test_the_rooms_on_the_pages_are_the_rooms():
    tree = set(re.findall(r"^  (\w+)/  ", text_of(ROOT / "README.md"), flags=re.M))
    page = text_of(ROOT / "docs" / "architecture.md")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", page, flags=re.M)
    assert tree == set(ALLOWED)
    assert {room: set(re.findall(r"`(\w+)`", others)) for room, others in rows} == ALLOWED


def test_the_files_that_the_pages_say_a_folder_holds_are_those_that_the_code_writes():
    architecture = text_of(ROOT / "docs" / "architecture.md")
    on_disk = architecture.partition("## What lives where on disk")[2].partition("\n## ")[0]
    contracts = text_of(ROOT / "CONTRIBUTING.md").partition("## Contracts")[2].partition("\n## ")[0]
    files = set(re.findall(r"`[\w/]*?(\w+\.(?:json|jsonl|md|html))`", on_disk + contracts))
    assert len(files) > 8
    modules = [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")]
    code = "".join(map(text_of, modules))
    assert {name for name in files if not re.search(rf'"(?:[\w/]*/)?{name}"', code)} == set()


def test_the_numbers_of_formats_are_those_of_the_code():
    page = text_of(ROOT / "CONTRIBUTING.md")
    numbers = re.findall(r"`(?:format(?:_version)?|draws)`, (\d+) \(`([\w/]+\.py)`\)", page)
    assert len(numbers) == 7
    for number, module in numbers:
        assert re.search(
            rf"^((\w+_)?FORMAT(_VERSION)?|DRAWS) = {number}$", text_of(ROOT / module), flags=re.M
        ), module


def test_the_form_for_problems_asks_what_the_program_knows_of_itself():
    form = yaml.safe_load(text_of(ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml"))
    fields = {entry["id"]: entry["attributes"] for entry in form["body"]}
    assert "doctor" in COMMANDS.commands
    assert "`speechkd doctor`" in fields["doctor"]["description"]
    assert "run.json" in fields["provenance"]["description"]
