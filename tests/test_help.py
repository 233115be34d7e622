"""The help: every command with an example that parses, every option with a word, no line cut."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from embreg.cli import gate_init, main

#: Commands that a shell or another command stands before, so that click's tree does not hold them.
APART = {"gate init": gate_init}


def tree(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something: leaves, and groups that may be called alone."""
    for name, command in group.commands.items():
        where = f"{path} {name}".strip()
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield where, command
        if isinstance(command, click.Group):
            yield from tree(command, where)


COMMANDS = dict(tree(main)) | APART


def helped(*words: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(main, [*words, "--help"])
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", COMMANDS)
def test_there_is_an_example_and_it_parses(path: str, tmp_path: Path) -> None:
    """It is parsed by the command itself, which is not run."""
    words = path.split()
    text = " ".join(helped(*words).split())
    found = re.search(r"Example: (embreg .*?) (?:Options:|Commands:|Positional)", text)
    assert found, text
    with contextlib.chdir(tmp_path):
        for line in found[1].split(";"):
            given = shlex.split(line.partition(" > ")[0])
            assert given[: len(words) + 1] == ["embreg", *words], line
            parsed(main, given[1:])
        assert not list(tmp_path.iterdir()), "parsing makes nothing"


def parsed(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Let the command that the words name parse the rest of them, all of them."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            raise click.UsageError(f"no command {words[0]}")
        parsed(command.commands[words[0]], words[1:], parent)
        return
    with command.make_context(command.name, list(words), parent) as context:
        assert context.args == []


def test_a_wrong_example_would_be_seen() -> None:
    for line in ("show", "show words --nope", "list a b", "eval words --seed x", "nope", "index rebuild a b"):
        with pytest.raises((click.UsageError, AssertionError)):
            parsed(main, line.split())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_says_what_it_does(path: str) -> None:
    for option in COMMANDS[path].params:
        if isinstance(option, click.Option):
            assert option.help, f"{path}: {option.opts}"
            assert option.help.rstrip().endswith((".", "]", "…", ")")), f"{path}: {option.help}"


def test_help_is_under_its_name_and_nowhere_else() -> None:
    assert helped().startswith("Usage: embreg")
    assert helped() == CliRunner(env={"COLUMNS": "80"}).invoke(main, ["-h"]).stdout
