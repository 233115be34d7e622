"""Processes that start at once: forked from one that has imported everything the commands need."""

from __future__ import annotations

# ruff: noqa: T201  a script that prints what it found
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import alembic.command  # noqa: F401  what the commands import: each fork would load it anew
import faiss
import numpy as np
import pyarrow.parquet  # noqa: F401
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401

import embreg.evals.report.documents
import embreg.registry.builds
import embreg.registry.diff
import embreg.registry.formats.npy
import embreg.registry.ingest
import embreg.registry.publish
import embreg.registry.retention
import embreg.registry.upkeep  # noqa: F401
from embreg import EmbeddingTable, connect
from embreg.cli import main as cli

ROWS, DIM, SOURCES = 4200, 64, 8
Words = list[str]


class Bench:
    """A folder with sources and a registry, and forks that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "r"
        self.errors = folder / "stderr"
        os.chdir(folder)
        faiss.omp_set_num_threads(1)
        self.warm_up()
        for seed in range(SOURCES):
            np.save(f"{seed}.npy", vectors(seed))
        for name, rows in (("small", ROWS), ("grown", ROWS + 200)):
            np.save(f"{name}.npy", vectors(99, ROWS + 200)[:rows])

    def warm_up(self) -> None:
        """Do everything once, so that a fork begins with its work and not with preparing to."""
        with connect(self.folder / "warm", create=True) as registry:
            for seed in (0, 1):
                registry.register("w", EmbeddingTable.from_arrays(None, vectors(seed, 100)), alias="live")
            registry.index("flat", "w@1", factory="Flat")
            registry.rebuild("flat")
            registry.gc(grace_s=0)
            registry.verify()

    def fork(self, work: Callable[[], object]) -> int:
        """Start some work in a process of its own; return its id."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            work()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
        except BaseException:  # noqa: BLE001  a fork must not go on as its parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def do(self, work: Callable[[], object]) -> int:
        """Do some work in a process of its own; return its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.fork(work), 0)[1])

    def command(self, words: Words) -> Callable[[], object]:
        """Return the work of one command line."""
        return lambda: cli([*words, "--registry", str(self.root)])

    def run(self, words: Words, kill_after: float | None = None) -> int:
        """Run a command to its end, or to a kill after some seconds; return its exit code, -9 if killed."""
        pid = self.fork(self.command(words))
        if kill_after is not None:
            time.sleep(kill_after)  # a loop would take the processor from the one it waits for
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def must(self, words: Words) -> None:
        """Run a command that has to succeed."""
        code = self.run(words)
        if code:
            self.fail(f"{' '.join(words)}: exit code {code}")

    def fail(self, what: str) -> None:
        """Stop everything, with what the processes said last."""
        said = self.errors.read_text()[-4000:] if self.errors.exists() else ""
        raise SystemExit(f"FAILED: {what}\n{said}\nthe registry is kept: {self.root}")

    def silent(self) -> None:
        """Nothing that was said tells of a bug or a lock."""
        said = self.errors.read_text() if self.errors.exists() else ""
        for word in ("Traceback", "locked", "internal error"):
            if word in said:
                self.fail(f"somebody said '{word}'")


@lru_cache(SOURCES + 2)
def vectors(seed: int, rows: int = ROWS) -> np.ndarray:
    """Return the rows of one source."""
    return np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)


def demand(fact: bool, what: str) -> None:
    """Raise what is wrong, if it is."""
    if not fact:
        raise RuntimeError(what)


def say(what: str) -> None:
    """Tell how far it is, on stderr."""
    print(what, file=sys.stderr, flush=True)
