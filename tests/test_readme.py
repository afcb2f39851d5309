"""The README and the command line are one product: neither names what the other has not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from automl.cli import app
from automl.config import SearchConfig, parse_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def written() -> list[str]:
    """Every command line of automl in the README, without its explanation."""
    lines = re.findall(r"^ {4}(automl .*)$", README, flags=re.MULTILINE)
    inline = re.findall(r"`(automl [a-z][^`]*)`", README)
    return sorted({re.split(r"\s{2,}", line)[0].strip() for line in [*lines, *inline]})


def test_there_are_commands_in_it() -> None:
    assert len(written()) >= 10


@pytest.mark.parametrize("line", written())
def test_a_command_of_the_readme_is_one(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    command = COMMANDS[name]
    required = ["x" for each in command.params if each.required and each.param_type_name == "argument"]
    command.make_context(name, arguments or required)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_in_the_readme(name: str) -> None:
    if name == "version":  # as self-explaining as --help
        return
    assert f"automl {name}" in README or f"make {name}" in README


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_search_space_is_in_the_readme_and_the_help(path: Path) -> None:
    assert f"| `{path.stem}` |" in README
    option = next(each for each in COMMANDS["search"].params if each.name == "space")
    assert path.stem in option.help


def test_the_search_space_of_the_readme_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert isinstance(parse_config(text, "README.md"), SearchConfig)


def test_files_and_make_targets_of_the_readme_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`?make (\w+)`?", README)) - {"nothing"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name


def test_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    from automl import errors

    classes = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    codes = {each.exit_code for each in classes if issubclass(each, errors.AutoMLError)}
    (sentence,) = re.findall(r"Exit codes: (.*?)\. ", README.replace("\n", " "))
    named = {int(code) for code in re.findall(r"\b(\d+)\b", sentence)}
    assert named == codes | {0, 130, 143}
