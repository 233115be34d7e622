"""docs/ci.md is run: every command, and what it prints; the checks it shows are those that are written."""

from __future__ import annotations

import contextlib
import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from embreg.cli import main

from .test_guide import _BLOCK, _SAME, DOCS, commands, printed

PAGE = (DOCS / "ci.md").read_text(encoding="utf-8")


def told(command: str, folder: Path) -> str:
    """Return what a command prints, in this process where it is embreg's."""
    words = shlex.split(command)
    if words[0] != "embreg":
        return printed(f"{sys.executable} -m {command} -p no:cacheprovider", folder)
    with contextlib.chdir(folder):
        done = CliRunner(env={"COLUMNS": "118", "EMBREG_REGISTRY": None}).invoke(main, words[1:])
    return done.output + (f"(exit code {done.exit_code})\n" if done.exit_code else "")


def test_every_command_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, DOCS / "ci" / "prepare.py", tmp_path], check=True)
    checker, run, written = doctest.OutputChecker(), 0, ""
    for kind, block in _BLOCK.findall(PAGE):
        if kind == "toml" and "[[gates]]" in block:
            written = (tmp_path / "embreg.toml").read_text(encoding="utf-8")
            assert all(part in written for part in block.strip().split("\n\n")), written
        for command, wanted in commands(block) if kind == "console" else ():
            got, run = told(command, tmp_path), run + 1
            assert checker.check_output(wanted.replace("…", "..."), got.replace("…", "..."), _SAME), (
                f"$ {command}\n{got}\nthe page shows:\n{wanted}"
            )
    assert run == 13
    assert written


def test_files_that_the_page_names_are_there() -> None:
    for name in re.findall(r"\]\(([\w./-]+)\)", PAGE):
        assert (DOCS / name).is_file(), name
