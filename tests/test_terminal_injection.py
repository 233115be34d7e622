"""Text that would like to steer a terminal: whatever a stranger writes, every command prints it as text."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from embreg.cli import main

ANSI, BIDI, MARKUP, LONG = (
    "\x1b[31mred\x1b[0m\x07",
    "\u202egnp.exe\u2069",
    "[red]not[/red] [link=x]y[/link]",
    "x" * 10_000,
)
IDS = [ANSI, BIDI, MARKUP, LONG, "\u200bzero", "two\nlines", "\ttab", "[/]", ":smile:", "\r\x1b]0;title\x07"]
NASTY = f"{ANSI} {BIDI} {MARKUP} two\nlines \x1b]8;;http://evil\x07 {'m' * 10_000}"
#: What rich itself sends for colours, and nothing else that moves or hides anything.
STYLE = re.compile("\x1b\\[[0-9;]*m")


class Shell:
    """Runs commands in this process, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, **env: str) -> tuple[str, str]:
        clean = {"EMBREG_REGISTRY": None, "EMBREG_DEBUG": "1", "GITHUB_STEP_SUMMARY": None, "NO_COLOR": None}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=clean | env).invoke(main, words)
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception
        assert done.exit_code in (0, 1), (words[:3], (done.stdout + done.stderr)[-2000:])
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A registry in which every text that a stranger may choose is a nasty one."""
    shell = Shell(tmp_path_factory.mktemp("hostile"))
    ids = [*IDS, *(f"id{i}" for i in range(50))]
    for seed in (1, 2):
        vectors = np.random.default_rng(seed).standard_normal((len(ids), 8)).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
        table = pa.table({"id": ids, "vector": column, NASTY[:200]: [NASTY] * len(ids)})
        pq.write_table(table, shell.folder / f"v{seed}.parquet")
    labels = "".join(f"{i}\t{MARKUP if n % 2 else BIDI}\n" for n, i in enumerate(ids) if i.isprintable())
    (shell.folder / "labels.tsv").write_text(labels, encoding="utf-8")
    (shell.folder / "embreg.toml").write_text(
        '[[gates]]\nmetric = "hubness.skewness"\nmax = -9\n'
        f'[[gates]]\nmetric = "hubness.skewness"\nmin = -9\nlabels = {{ "[red]" = "{MARKUP}" }}\n'
    )
    shell("init")
    for seed in (1, 2):
        shell("register", "words", f"v{seed}.parquet", "-m", NASTY, "--model", NASTY, "--tag", f"k={NASTY}")
        shell("alias", "set", "words", "production", "words@1")
    shell(
        "dataset", "add", "classes", "labels.tsv", "--kind", "labels", "--licence", NASTY, "--source", NASTY
    )
    shell("index", "build", "flat", "words@1", "--factory", "Flat")
    shell(
        "dependent", "add", "outside", "--tracks", "words", "--note", NASTY[:4000], "--built-from", "words@1"
    )
    shell("derive", "words@1", "--transform", "center", "-m", NASTY)
    for ref in ("words@1", "words@2"):
        shell("eval", ref, "--suite", "hubness", "--suite", "neighbors", "--suite", "anisotropy")
    shell("drift", "words@1", "words@2")
    return shell


READING = [
    "", "list", "list words", "show words@2", "log --all", "diff words@1 words@2", "alias list words",
    "alias history words", "index list", "index status flat", "index search flat id1", "lineage words@1",
    "lineage words@1 --dot", "dependent list", "dataset list", "dataset show classes", "suites",
    "eval words@2 --suite hubness --suite neighbors --baseline words@1", "drift words@1 words@2",
    "drift words --history", "compare words@1 words@2 --recorded --all-labels", "metrics words --all-labels",
    "metrics words@2", "items words@2 --suite hubness", "items words@1 words@2 --suite neighbors", "du",
    "verify", "gc --dry-run", "prune words --keep 1 --dry-run", "neighbors words@2 id1 -k 40",
    "analogy words@2 id1 id2 id3 -k 40", "gate words@2 --baseline words@1", "db current",
]  # fmt: skip


@pytest.mark.parametrize("width", ["60", "100", ""])
@pytest.mark.parametrize("command", READING, ids=lambda command: command or "embreg alone")
def test_nothing_steers_the_terminal(place: Shell, command: str, width: str) -> None:
    env = {"COLUMNS": width, "FORCE_COLOR": "1", "TERM": "xterm-256color"} if width else {}
    out, err = place(*command.split(), **env)
    for text in (STYLE.sub("", out), STYLE.sub("", err)):
        odd = {c for c in text if not c.isprintable() and c != "\n"}
        assert not odd, f"{odd} in {text!r}"
    assert out.strip()
    if width and "--dot" not in command:  # that is for Graphviz
        assert all(cell_len(line) <= int(width) for line in STYLE.sub("", out).split("\n"))


@pytest.mark.parametrize("command", READING, ids=lambda command: command or "embreg alone")
def test_no_colours_where_nobody_asked_for_them(place: Shell, command: str) -> None:
    assert "\x1b" not in place(*command.split())[0]


@pytest.mark.parametrize("item", IDS, ids=range(len(IDS)))
def test_a_nasty_id_can_be_asked_for_and_is_shown_as_text(place: Shell, item: str) -> None:
    out, _ = place("neighbors", "words@2", item, "-k", "59")
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "[red]not[/red]" in out or item == MARKUP, "markup is text"
    assert "\\x1b[31mred" in out or item == ANSI
    assert "\\u202egnp" in out or item == BIDI


def test_where_numbers_have_no_room_the_terminal_wraps_them_and_nothing_is_cut(place: Shell) -> None:
    out = place("index", "list", COLUMNS="20")[0]
    assert "1.0000 @10" in out
    assert "not shown at this width: tracks, built from, factory" in " ".join(out.split())


def test_what_a_message_asks_for_is_not_obeyed(place: Shell) -> None:
    out, _ = place("show", "words@2")
    assert "[red]not[/red] [link=x]y[/link]" in out
    assert "\\x1b[31mred\\x1b[0m\\x07" in out
    assert "two\\nlines" in out
    assert max(map(len, out.split("\n"))) < 1500, "10,000 letters are cut"
