"""What a shell gets when it asks: by its own protocol, in processes of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from embreg import EmbeddingTable, connect
from embreg.cli import main
from embreg.registry.measured import MeasureRecord, RunRecord

RUN = "from embreg.cli import main; main()"


def answered(folder: Path, *words: str, shell: str = "bash", env: dict[str, str] | None = None) -> list[str]:
    """Return what is offered in place of the last word; nothing but that may be said."""
    asked = {"COMP_WORDS": "\n".join(("embreg", *words)), "COMP_CWORD": str(len(words))}
    asked |= {"_EMBREG_COMPLETE": f"{shell}_complete", "EMBREG_REGISTRY": None} | (env or {})
    with contextlib.chdir(folder):
        done = CliRunner(env=asked).invoke(main, [], prog_name="embreg")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.strip().split("\n")
    return [line.partition(",")[2] for line in lines if line] if shell == "bash" else lines


def process(folder: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    asked = {"COMP_WORDS": "\n".join(("embreg", *words)), "COMP_CWORD": str(len(words))}
    env = os.environ | asked | {"_EMBREG_COMPLETE": "bash_complete"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion")
    table = EmbeddingTable.from_arrays([f"i{n}" for n in range(8)], np.eye(8, dtype=np.float32))
    (path / "pairs.tsv").write_text("i1\ti2\t3\n")
    with connect(path / ".embreg", create=True) as registry:
        registry.register("words", table, model="a", alias="production")
        registry.register("words", table, model="b", alias="candidate")
        registry.register("docs", table)
        registry.index("fast", "words@1", factory="Flat")
        registry.add_dataset("alike", path / "pairs.tsv", "pairs")
        registry.add_dependent("outside", "words", note="by hand")
        measures = (MeasureRecord(metric="skewness", labels={}, value=1.0, n=8),)
        run = RunRecord(
            suite="hubness", suite_version=2, version="words@1", version_digest="", measures=measures
        )
        registry.record(run)
    return path


CASES = [
    (("show", ""), ["docs", "words", "words@candidate", "words@production"]),
    (("show", "words@"), ["words@production", "words@candidate", "words@2", "words@1", "words@latest"]),
    (("show", "words", "@", "p"), ["production"]),  # as bash takes it apart
    (("show", "words", "@"), ["production", "candidate", "2", "1", "latest"]),
    (("diff", "words", "@", "1", "wo"), ["words", "words@candidate", "words@production"]),
    (("list", "w"), ["words"]),
    (("log", "d"), ["docs"]),
    (("register", "w"), ["words"]),
    (("promote", "words@2", "p"), ["production"]),
    (("alias", "set", "words", "c"), ["candidate"]),
    (("alias", "rm", "docs", ""), []),
    (("register", "docs", "file", "--alias", ""), []),
    (("register", "new", "file", "--alias", ""), ["candidate", "production"]),
    (("alias", "history", "w"), ["words"]),
    (("index", "rebuild", ""), ["fast"]),
    (("index", "search", "f"), ["fast"]),
    (("index", "build", "x", "words", "--track", ""), ["latest", "candidate", "production"]),
    (("dependent", "done", ""), ["outside"]),
    (("dataset", "show", "a"), ["alike"]),
    (("eval", "words", "--dataset", "al"), ["alike"]),
    (("eval", "words", "--suite", "h"), ["hubness"]),
    (("eval", "words", "--suite", "hubness", "--suite", "an"), ["analogies", "anisotropy"]),
    (("eval", "words", "--baseline", "d"), ["docs"]),
    (("eval", "words", "-p", "hubness."), ["hubness.k="]),
    (("metrics", "words", "--metric", ""), ["hubness.skewness"]),
    (("metrics", "docs", "--metric", ""), []),
    (("suites", "show", "drift.ck"), ["drift.cka"]),
    (("suites", "show", "dr"), ["drift"]),
    (("derive", "words", "--transform", "w"), ["whiten"]),
    (("export", "words", "out", "--format", "par"), ["parquet"]),
    (("register", "x", "y", "--kind", "w"), ["word"]),
    (("register", "x", "y", "--metric", ""), ["cosine", "dot", "l2"]),
    (("dataset", "add", "x", "y", "--kind", "p"), ["pairs", "positives"]),
    (("index", "re"), ["rebuild"]),
    (("eval", "--queri"), ["--queries"]),
    (("gate", "doc"), ["docs"]),
]


@pytest.mark.parametrize(("words", "offered"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_what_is_offered(folder: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert answered(folder, *words) == offered


def test_a_registry_that_the_line_names(folder: Path, tmp_path: Path) -> None:
    assert answered(tmp_path, "show", "--registry", str(folder / ".embreg"), "d") == ["docs"]
    assert answered(tmp_path, "show", "d", env={"EMBREG_REGISTRY": str(folder / ".embreg")}) == ["docs"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_whole_words(folder: Path, shell: str) -> None:
    env = {"COMP_WORDS": "embreg show words@p", "COMP_CWORD": "words@p" if shell == "fish" else "2"}
    assert any("words@production" in line for line in answered(folder, shell=shell, env=env))


@pytest.mark.parametrize("what", ["nothing", "broken toml", "no database", "a newer one", "no permission"])
def test_what_is_wrong_is_not_told_and_nothing_is_made(folder: Path, tmp_path: Path, what: str) -> None:
    if what == "broken toml":
        (tmp_path / "embreg.toml").write_text("[[[")
    elif what == "no database":
        (tmp_path / ".embreg").mkdir()
        (tmp_path / ".embreg" / "embreg.db").write_bytes(b"not a database at all" * 99)
    elif what == "a newer one":
        shutil.copytree(folder / ".embreg", tmp_path / ".embreg")
        database = tmp_path / ".embreg" / "embreg.db"
        set_to = "UPDATE alembic_version SET version_num = '9999'"
        subprocess.run([sys.executable, "-c", f"import sqlite3; c = sqlite3.connect({str(database)!r}); "
                        f"c.execute({set_to!r}); c.commit()"], check=True)  # fmt: skip
    elif what == "no permission":
        (tmp_path / ".embreg").write_text("a file")
    before = {path for path in tmp_path.rglob("*") if not path.name.startswith("embreg.db-")}
    for words in (
        ("show", ""),
        ("index", "status", ""),
        ("metrics", "x", "--metric", ""),
        ("alias", "set", "w", ""),
    ):
        assert answered(tmp_path, *words) == []
    assert {path for path in tmp_path.rglob("*") if not path.name.startswith("embreg.db-")} == before


def test_it_is_quick(folder: Path) -> None:
    """A fresh Python that loads SQLAlchemy takes a third of a second; nothing numeric may come on top."""
    code = f"import sys\ntry:\n    {RUN}\nfinally:\n    print(*sys.modules, file=sys.__stderr__)"
    start = time.perf_counter()
    done = process(folder, code, "show", "w")
    assert time.perf_counter() - start < 10
    assert done.stdout.split() == ["plain,words", "plain,words@candidate", "plain,words@production"]
    loaded = set(done.stderr.split())
    assert "sqlalchemy" in loaded
    assert not loaded & {"numpy", "pyarrow", "torch", "scipy", "faiss", "rich", "alembic"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_in_bash_itself(folder: Path, tmp_path: Path) -> None:
    """The script that ``embreg completion bash`` prints, run by bash with the words as bash cuts them."""
    binary = tmp_path / "embreg"
    binary.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{RUN}' \"$@\"\n")
    binary.chmod(0o755)
    lines = (
        'eval "$(embreg completion bash)"',
        "COMP_WORDS=(embreg promote words @ 2 pr); COMP_CWORD=5; _embreg_completion embreg",
        'echo "${COMPREPLY[@]}"; COMPREPLY=()',
        "COMP_WORDS=(embreg show words @ c); COMP_CWORD=4; _embreg_completion embreg",
        'echo "${COMPREPLY[@]}"',
    )
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", "\n".join(lines)], cwd=folder, env=env,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == ["production", "candidate"]
    assert done.stderr == ""
