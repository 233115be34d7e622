"""Real terminals, dumb ones and pipes: colours, widths and progress go where they belong."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from embreg import EmbeddingTable, connect
from embreg.cli import main

pty = pytest.importorskip("pty")
RUN = [sys.executable, "-c", "from embreg.cli import main; main()"]
STYLE = re.compile("\x1b\\[[0-9;]*m")
COLOUR = re.compile("\x1b\\[[0-9;]*3[0-9][0-9;]*m")
LONG = "nobody folds this in a pipe " * 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams")
    rng = np.random.default_rng(0)
    with connect(path / ".embreg", create=True) as registry:
        for _ in range(2):
            vectors = rng.standard_normal((300, 8)).astype(np.float32)
            registry.register("words", EmbeddingTable.from_arrays([f"i{n}" for n in range(300)], vectors),
                              message=LONG, alias="a-rather-long-alias")  # fmt: skip
        registry.index("fast", "words@1", factory="Flat")
        np.save(path / "more.npy", vectors)
        (path / "pairs.tsv").write_text("i1\ti2\t3\n")
    return path


def clean(**more: str) -> dict[str, str]:
    own = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "EMBREG_REGISTRY")
    return {k: v for k, v in os.environ.items() if k not in own} | {"TERM": "xterm-256color"} | more


def terminal(folder: Path, *words: str, columns: int = 100, **env: str) -> str:
    """Return what a real terminal of so many columns gets, stdout and stderr together."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [*RUN, *words], cwd=folder, env=clean(**env), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
    os.close(ours)
    assert process.returncode in (0, 1), shown
    return shown.decode()


def _read(ours: int) -> bytes:
    try:
        return os.read(ours, 65536)
    except OSError:  # Linux: the other end is closed
        return b""


def piped(folder: Path, *words: str, **env: str) -> tuple[str, str]:
    done = subprocess.run(
        [*RUN, *words], cwd=folder, env=clean(**env), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_has_its_width(folder: Path, columns: int) -> None:
    for words in (("list",), ()):
        shown = STYLE.sub("", terminal(folder, *words, columns=columns)).replace("\r\n", "\n")
        assert max(map(len, shown.split("\n"))) <= columns, words
        assert all(line == line.rstrip() for line in shown.split("\n") if "  " in line.strip()), words


def test_a_pipe_has_none_and_gets_no_colours(folder: Path) -> None:
    out, err = piped(folder, "list")
    assert LONG.strip() in out
    assert "\x1b" not in out + err
    assert "not shown" not in out
    assert max(map(len, piped(folder, "list", COLUMNS="70")[0].split("\n"))) <= 70, "unless it is said"


def test_colours_on_a_terminal_unless_it_is_told_not_to(folder: Path) -> None:
    assert COLOUR.search(terminal(folder, "index", "list"))
    for env in ({"NO_COLOR": "1"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}):
        shown = terminal(folder, "index", "list", **env)
        assert not COLOUR.search(shown), env
        assert "✗ stale" in shown
    assert "\x1b" not in terminal(folder, "index", "list", TERM="dumb")
    assert COLOUR.search(piped(folder, "index", "list", FORCE_COLOR="1")[0])


LONG_WORK = [
    ("register", "more", "more.npy"), ("verify",), ("gc", "--dry-run"), ("index", "rebuild", "--stale"),
    ("index", "build", "other", "words@1", "--factory", "Flat"), ("eval", "words@2", "--suite", "hubness"),
    ("drift", "words@1", "words@2"), ("compare", "words@1", "words@2", "--suite", "anisotropy"),
    ("dataset", "add", "alike", "pairs.tsv", "--kind", "pairs"), ("export", "words@2", "out.npy"),
    ("derive", "words@2", "--transform", "center"), ("diff", "words@1", "words@2"),
    ("apply", "words/center", "more.npy", "-o", "centred.npy"), ("promote", "words@1", "new"),
]  # fmt: skip


def watched(folder: Path, *words: str) -> str:
    """Return what a terminal gets of a command in this process: a fresh one takes a second to start."""
    ours, theirs = pty.openpty()
    pieces: list[bytes] = []
    reader = threading.Thread(target=lambda: pieces.extend(iter(lambda: _read(ours), b"")))
    reader.start()
    with os.fdopen(theirs, "w") as screen, pytest.MonkeyPatch.context() as patched, contextlib.chdir(folder):
        for name, value in (("COLUMNS", "100"), ("TERM", "xterm-256color")):
            patched.setenv(name, value)
        for name in ("NO_COLOR", "EMBREG_REGISTRY"):
            patched.delenv(name, raising=False)
        patched.setattr(sys, "stdout", screen)
        patched.setattr(sys, "stderr", screen)
        with pytest.raises(SystemExit) as ended:
            main(list(words))
    reader.join()
    os.close(ours)
    shown = b"".join(pieces).decode()
    assert ended.value.code in (0, 1), shown
    return shown


@pytest.mark.parametrize("words", LONG_WORK, ids=" ".join)
def test_long_work_shows_how_far_it_is_and_only_to_a_terminal(folder: Path, words: tuple[str, ...]) -> None:
    shown = watched(folder, *words)
    assert "━" in shown, "a bar"
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1, "the cursor comes back"
    again = [*words, *(["--overwrite"] if words[0] in ("export", "apply") else [])]
    with contextlib.chdir(folder):
        done = CliRunner(env={"EMBREG_REGISTRY": None}).invoke(main, again)
    assert done.exit_code in (0, 1), done.stderr
    assert "━" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_the_time_that_is_left(folder: Path) -> None:
    """Where the total is known the bar says how many, of how many, and for how long still."""
    shown = STYLE.sub("", watched(folder, "verify"))
    assert re.search(r"verifying: blobs ━+ +\d+/\d+ \d:\d\d:\d\d", shown)


def test_a_dumb_terminal_gets_no_bar(folder: Path) -> None:
    shown = terminal(folder, "verify", TERM="dumb")
    assert shown.startswith("✓ ")
    assert shown.count("\n") == 1
