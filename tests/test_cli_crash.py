"""What kill -9 and company at the same door do to a registry: nothing half-done, nothing lost, no gap.

Commands run in real processes, forked from one that has imported everything: a command then takes some 50 ms,
so that a kill at a random moment falls into its work and not into the start of Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embreg import connect
from embreg.registry.errors import IndexNotFound

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

ROWS, DIM = 3000, 64
#: A line in: [when to kill -9: seconds, a folder in which a file appears, null: never; [command, …]];
#: a line out: [[exit code, …], seconds].
NURSERY = """
import json, os, signal, sys, time
import alembic.command, faiss, pyarrow.parquet, sqlalchemy.orm, sqlalchemy.dialects.sqlite.pysqlite
import embreg.evals.queries, embreg.evals.report.documents, embreg.registry.builds, embreg.registry.publish
import embreg.registry.formats.npy, embreg.registry.ingest, embreg.registry.upkeep, embreg.registry.diff
from embreg.cli import main

def start(argv):
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = 70
    try:
        main(argv)
    except SystemExit as exc:
        code = exc.code
    finally:
        sys.stderr.flush()
        os._exit(code)

def files(folder):
    names = [name for _, _, names in os.walk(folder) for name in names]
    return len([name for name in names if not name.startswith("embreg.db")])

def wait(when):
    if not isinstance(when, str):
        return time.sleep(when)
    before, deadline = files(when), time.monotonic() + 20
    while files(when) == before and time.monotonic() < deadline:
        pass

while line := sys.stdin.readline():
    when, commands = json.loads(line)
    began = time.perf_counter()
    pids = [start(argv) for argv in commands]
    if when is not None:
        wait(when)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(json.dumps([codes, time.perf_counter() - began]), flush=True)
"""


class Nursery:
    """Runs commands in processes of their own, alone or together, to their end or to a kill."""

    def __init__(self, folder: Path) -> None:
        self.errors = folder / "stderr"
        with self.errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", NURSERY],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def together(self, commands: list[list[str]], kill: float | str | None = None) -> tuple[list[int], float]:
        """Run commands at the same time; return their exit codes (-9: killed) and the seconds it took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([kill, commands]), file=self.process.stdin, flush=True)
        codes, seconds = json.loads(self.process.stdout.readline())
        return codes, seconds

    def run(self, *words: str, root: Path, kill: float | str | None = None) -> int:
        """Run one command on a registry; return its exit code."""
        return self.together([[*words, "--registry", str(root)]], kill)[0][0]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    folder = tmp_path_factory.mktemp("crash")
    for i in range(8):
        np.save(folder / f"{i}.npy", vectors(i))
    np.save(folder / "big.npy", np.tile(vectors(9), (40, 1)))  # 30 MB: writing it takes a while
    made = Nursery(folder)
    yield made
    made.close()
    told = made.errors.read_text()
    for word in ("Traceback", "locked", "internal error"):
        assert word not in told, told


@pytest.fixture
def root(nursery: Nursery, tmp_path: Path) -> Path:
    """A registry with w@1, which holds 0.npy."""
    assert nursery.run("init", root=tmp_path / "r") == 0
    assert nursery.run("register", "w", "0.npy", root=tmp_path / "r") == 0
    return tmp_path / "r"


def vectors(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, DIM), dtype=np.float32)


def moments(nursery: Nursery, count: int, seed: int, *words: str, root: Path) -> np.ndarray:
    """Random moments from the start of a command to just after its end, from the time one takes here."""
    (code,), seconds = nursery.together([[*words, "--registry", str(root)]])
    assert code == 0
    return np.random.default_rng(seed).uniform(0, 1.05 * seconds, count)


def look(root: Path, nursery: Nursery) -> None:
    """Every stored version is whole, numbered without a gap, and holds the rows of the source it names."""
    for words in (("list",), ("log",), ("index", "list"), ("show", "w")):
        assert nursery.run(*words, root=root) == 0
    with connect(root) as registry:
        versions = registry.versions("w")
        assert [v.number for v in versions] == list(range(1, len(versions) + 1))
        for version in versions:
            table = registry.table(version)
            assert np.array_equal(table.vectors, vectors(int(Path(version.source).stem)))
            assert table.ids.to_pylist() == [str(i) for i in range(ROWS)]


def whole(root: Path) -> None:
    """Whatever has the name of a blob is that blob, also what nothing refers to."""
    for path in (root / "blobs").rglob("*"):
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_a_killed_registration_is_whole_or_invisible(nursery: Nursery, root: Path) -> None:
    assert nursery.run("index", "build", "flat", "w", "--factory", "Flat", root=root) == 0
    invisible = 0
    for i, moment in enumerate(moments(nursery, 12, 1, "register", "w", "1.npy", root=root)):
        source = f"{i % 7 + 1}.npy"
        # The model makes a version of each round, on top of parts that a round before may have left behind.
        words = ("register", "w", source, "--model", str(i), "--alias", "newest")
        with connect(root) as registry:
            before = len(registry.versions("w"))
        nursery.run(*words, root=root, kill=moment)
        with connect(root) as registry:
            versions = registry.versions("w")
            assert len(versions) - before in (0, 1)
            if len(versions) == before:
                invisible += 1
                assert all(v.space.model != str(i) for v in versions)
            else:
                assert versions[-1].aliases == ("newest",), "the alias moved with it, or not at all"
        assert nursery.run(*words, root=root) == 0
        with connect(root) as registry:
            assert registry.resolve("w").space.model == str(i)
            assert len(registry.versions("w")) == before + 1
            (state,) = registry.indexes()
            assert state.tracked == registry.resolve("w").ref
    look(root, nursery)
    whole(root)
    assert invisible >= 3, "the kills came too late to show anything"


def test_a_killed_write_is_no_blob(nursery: Nursery, root: Path) -> None:
    words = ("register", "big", "big.npy")
    assert nursery.run(*words, root=root, kill=str(root)) == -signal.SIGKILL
    assert len(list((root / "staging").iterdir())) == 1, "killed while it wrote"
    whole(root)
    assert nursery.run("show", "big", root=root) == 3
    assert nursery.run(*words, root=root) == 0
    with connect(root) as registry:
        assert np.array_equal(registry.table("big").vectors, np.tile(vectors(9), (40, 1)))
    whole(root)


def test_a_killed_index_build_is_whole_or_invisible(nursery: Nursery, root: Path) -> None:
    words = ("index", "build", "ivf", "w", "--factory", "IVF16,Flat", "--search", "nprobe=4")
    invisible = 0
    for moment in moments(nursery, 8, 2, *words, root=root):
        assert nursery.run("index", "rm", "ivf", root=root) == 0
        nursery.run(*words, root=root, kill=moment)
        with connect(root) as registry:
            try:
                (state,) = registry.indexes("ivf")
                assert (state.rows, state.state) == (ROWS, "fresh")
            except IndexNotFound:
                invisible += 1
        assert nursery.run(*words, root=root) == 0
        with connect(root) as registry:
            assert len(registry.search("ivf", "5", 10)) == 10
    look(root, nursery)
    whole(root)
    assert invisible >= 2, "the kills came too late to show anything"


def test_a_killed_move_of_an_alias_is_done_or_not_begun(nursery: Nursery, root: Path) -> None:
    assert nursery.run("register", "w", "1.npy", root=root) == 0
    assert nursery.run("alias", "set", "w", "live", "w@1", root=root) == 0
    assert nursery.run("index", "build", "i", "w@1", "--factory", "Flat", "--track", "live", root=root) == 0
    stayed = 0
    for i, moment in enumerate(moments(nursery, 12, 3, "alias", "set", "w", "live", "w@1", root=root)):
        target = f"w@{2 - i % 2}"
        nursery.run("alias", "set", "w", "live", target, root=root, kill=moment)
        with connect(root) as registry:
            now = registry.aliases("w")["live"]
            moves = [e for e in registry.log("w") if e.action == "alias.moved"]
            (state,) = registry.indexes()
        stayed += now != target
        assert f"w@{moves[-1].detail['new']}" == now, "the move and its event are one"
        assert (state.tracked, state.stale) == (now, now != "w@1"), "and so are the move and the judgement"
        assert nursery.run("alias", "set", "w", "live", target, root=root) == 0
    look(root, nursery)
    assert stayed >= 2, "the kills came too late to show anything"


def test_a_killed_init_can_be_run_again(nursery: Nursery, tmp_path: Path) -> None:
    for i, moment in enumerate(moments(nursery, 8, 4, "init", root=tmp_path / "first")):
        root = tmp_path / str(i)
        nursery.run("init", root=root, kill=moment)
        assert nursery.run("init", root=root) == 0
        assert nursery.run("register", "w", "0.npy", root=root) == 0
        with connect(root) as registry:
            assert registry.resolve("w").rows == ROWS


@pytest.mark.parametrize("count", [2, 4])
def test_registrations_at_once_lose_nothing_and_leave_no_gap(
    nursery: Nursery, root: Path, count: int
) -> None:
    assert nursery.run("index", "build", "flat", "w", "--factory", "Flat", root=root) == 0
    for round_ in range(3):
        words = [
            ["register", "w", f"{i + 1}.npy", "--model", f"{round_}-{i}", "--registry", str(root)]
            for i in range(count)
        ]
        assert nursery.together(words)[0] == [0] * count
    with connect(root) as registry:
        models = [v.space.model for v in registry.versions("w")]
        assert len(models) == 1 + 3 * count
        assert sorted(models[1:]) == sorted(f"{r}-{i}" for r in range(3) for i in range(count))
        (state,) = registry.indexes()
        assert state.tracked == registry.resolve("w").ref
        events = [e.subject for e in registry.log("w") if e.action == "version.registered"]
        assert events == [f"w@{n}" for n in range(1, len(models) + 1)]
    look(root, nursery)


def test_the_same_rows_at_once_are_one_version(nursery: Nursery, root: Path) -> None:
    words = ["register", "w", "1.npy", "--registry", str(root)]
    assert nursery.together([words] * 4)[0] == [0] * 4
    with connect(root) as registry:
        assert [v.number for v in registry.versions("w")] == [1, 2]


def test_of_compare_and_sets_at_once_one_wins(nursery: Nursery, root: Path) -> None:
    for i in range(1, 4):
        assert nursery.run("register", "w", f"{i}.npy", root=root) == 0
    assert nursery.run("alias", "set", "w", "live", "w@1", root=root) == 0
    words = [
        ["alias", "set", "w", "live", f"w@{n}", "--if-was", "w@1", "--registry", str(root)] for n in (2, 3, 4)
    ]
    codes, _ = nursery.together(words)
    assert sorted(codes) == [0, 3, 3]
    with connect(root) as registry:
        assert registry.aliases("w")["live"] == f"w@{codes.index(0) + 2}"


def test_a_kill_among_others_costs_them_nothing(nursery: Nursery, root: Path) -> None:
    """A writer that dies inside its transaction leaves no lock to wait for."""
    for moment in moments(nursery, 4, 5, "register", "w", "1.npy", root=root):
        words = [["register", "w", f"{i}.npy", "--registry", str(root)] for i in (2, 3)]
        nursery.together(words, kill=moment)
        codes, seconds = nursery.together(words)
        assert codes == [0, 0]
        assert seconds < 20, "the lock of the dead was waited for"
    look(root, nursery)
