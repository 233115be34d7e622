"""``report`` as people and scripts call it, and the page of ``gate --html``, which is the same."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from embreg.cli import main

ROWS = 200
CONFIG = """
[[gates]]
metric = "hubness.skewness"
max_rise = 0.5

[[gates]]
metric = "drift.neighbor_overlap@10"
min = 0.99
"""


class Shell:
    """Runs commands in this process, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, code: int = 0) -> str:
        env = {"EMBREG_REGISTRY": None, "EMBREG_DEBUG": "1"}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=env).invoke(main, words)
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code in (0, 1) else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """words@1, words@2 with noise and gated, words@3 never measured."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 8)).astype(np.float32)
    shell = Shell(folder)
    (folder / "embreg.toml").write_text(CONFIG, encoding="utf-8")
    shell("init")
    for i, noise in enumerate((0.0, 0.5, 0.6)):
        np.save(folder / f"{i}.npy", x + noise * rng.standard_normal(x.shape).astype(np.float32))
        shell("register", "words", f"{i}.npy")
    shell("eval", "words@1", "--suite", "anisotropy", "--suite", "hubness")
    shell("eval", "words@2", "--suite", "anisotropy")
    shell("gate", "words@2", "--baseline", "words@1", "--html", "gate.html", code=1)
    return shell


def body(text: str) -> str:
    """What is on a page apart from clocks, and who judged when."""
    text = text[text.index("<body") :]
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)
    return re.sub(r'<p class="quiet">Judged .*?</p>|<dt>embreg.toml of the verdict.*\n', "", text)


def test_a_page_and_what_is_told_of_it(shell: Shell) -> None:
    assert shell("report", "words@2", "-o", "a.html").startswith("wrote a.html, ")
    told = shell.json("report", "words@2", "-o", "a.html")
    text = (shell.folder / "a.html").read_text(encoding="utf-8")
    assert told["path"] == "a.html"
    assert told["bytes"] == len(text.encode()) < 5_000_000
    assert (told["ref"], told["baseline"], told["passed"]) == ("words@2", "words@1", False)
    assert told["assets"] == []
    names = [chart["name"] for chart in told["charts"]]
    assert {"similarity", "spectrum", "norms"} <= set(names)
    assert all(f'id="{name}"' in text for name in names)
    assert all(f'id="{section}"' in text for section in told["sections"])
    assert told["sections"][0] == "verdict"


def test_the_page_of_the_gate_is_the_same(shell: Shell) -> None:
    shell("report", "words@2", "--baseline", "words@1", "-o", "b.html")
    one, other = ((shell.folder / name).read_text(encoding="utf-8") for name in ("gate.html", "b.html"))
    assert body(one) == body(other)
    assert "as this page was written" in one
    assert "by the checks of embreg.toml." in other


def test_it_says_what_is_not_there(shell: Shell) -> None:
    told = shell.json("report", "words@3", "-o", "c.html")
    assert told["passed"] is None
    assert told["baseline"] == "words@2"
    text = (shell.folder / "c.html").read_text(encoding="utf-8")
    assert "<code>embreg gate words@3 --baseline words@2</code>" in text
    assert "<code>embreg eval words@3 --baseline words@2</code>" in text


def test_on_stdout(shell: Shell) -> None:
    text = shell("report", "words@1", "-o", "-")
    assert text.startswith("<!DOCTYPE html>")
    assert text.rstrip().endswith("</html>")


def test_pictures_as_files(shell: Shell) -> None:
    told = shell.json("report", "words@2", "-o", "d.html", "--assets", "deep/pictures")
    folder = shell.folder / "deep" / "pictures"
    found = sorted(path.name for path in folder.iterdir())
    assert found == sorted(Path(path).name for path in told["assets"])
    assert {f"{chart['name']}.{suffix}" for chart in told["charts"] for suffix in ("svg", "png")} == set(
        found
    )
    for path in folder.iterdir():
        data = path.read_bytes()
        if path.suffix == ".svg":
            assert ElementTree.fromstring(data).tag.endswith("svg")
        else:
            assert data.startswith(b"\x89PNG")
            assert min(struct.unpack(">II", data[16:24])) > 100


def test_what_is_there_is_replaced_as_a_whole(shell: Shell) -> None:
    target, link = shell.folder / "target.html", shell.folder / "link.html"
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target)
    shell("report", "words@1", "-o", "link.html")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert target.stat().st_mode & 0o777 == 0o640
    shell("report", "words@1", "-o", "/dev/null")
    assert Path("/dev/null").is_char_device()
    assert not [path for path in shell.folder.iterdir() if path.name.startswith(".target")]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["words@9", "-o", "x.html"], 3, "no version 'words@9'"),
        (["words@2"], 2, "--output"),
        (["words@2", "--baseline", "words@1", "--no-baseline", "-o", "x.html"], 2, "not both"),
        (["words@2", "-o", "nowhere/x.html"], 3, "cannot write nowhere/x.html: No such file"),
        (["words@2", "-o", "x.html", "--assets", "0.npy"], 3, "cannot write 0.npy: File exists"),
        (["words@2", "-o", ".embreg"], 3, "cannot write .embreg: Is a directory"),
        (["words@2", "-o", "x.html", "--map", "mds"], 2, "mds"),
        (["words@2", "-o", "-", "--json"], 2, "both write to stdout"),
    ],
    ids=["version", "no output", "both", "no folder", "assets", "directory", "map", "stdout twice"],
)
def test_a_line_where_it_cannot_be(shell: Shell, words: list[str], code: int, told: str) -> None:
    line = shell("report", *words, code=code)
    assert told in line
    assert line.count("\n") <= 4
    assert not (shell.folder / "x.html").exists()


def test_the_help_has_an_example(shell: Shell) -> None:
    assert "Example: embreg report" in shell("report", "--help")
