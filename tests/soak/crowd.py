"""Many processes at the same door: registrations onto one name, and moves of one alias between them."""

from __future__ import annotations

# ruff: noqa: T201  a script that prints what it found
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from forks import Bench, demand, say

from embreg import EmbeddingTable, Registry, connect
from embreg.registry.database import Database
from embreg.registry.errors import Conflict


@dataclass
class Waits:
    """How long each transaction of one process waited for the lock."""

    seconds: list[float] = field(default_factory=list)


def crowd(bench: Bench, processes: int, each: int) -> None:
    """Let processes register onto one name and move one alias; every round all are at the lock together."""
    bench.must(["init"])
    bench.must(["register", "seed", "0.npy"])
    context = get_context("fork")
    door, opened, answers = context.Barrier(processes + 1), context.Barrier(processes + 1), context.Queue()
    pids = [
        bench.fork(lambda me=me: worker(bench.root, me, each, door, opened, answers))
        for me in range(processes)
    ]
    began = time.perf_counter()
    for round_ in range(2 * each):
        hold_the_lock(bench.root, door, opened)
        if round_ % 10 == 9:
            say(f"  round {round_ + 1} of {2 * each}")
    told = [answers.get(timeout=300) for _ in pids]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    seconds = time.perf_counter() - began
    if any(codes):
        bench.fail(f"exit codes {codes}")
    bench.silent()
    waited = [wait for _, waits, _ in told for wait in waits]
    wins = [win for _, _, moves in told for win in moves]
    if bench.do(lambda: agree(bench.root, processes, each, wins)):
        bench.fail("what the processes did and what the registry says disagree")
    queued = sum(wait >= HOLD_S / 2 for wait in waited)
    if queued != 2 * processes * each:
        bench.fail(f"only {queued} of {2 * processes * each} transactions met a held lock")
    count = processes * each
    print(
        f"\n{processes} processes x {each} registrations onto one name: numbers 1..{count}, no gap, no loss."
    )
    print(f"{queued} of {len(waited)} transactions met a lock that was held while all arrived; the longest")
    print(f"waited {max(waited):.1f} s. Of the compare-and-sets of one alias one a round won, the others")
    print(f"({count - sum(wins)}) were refused. Nobody saw 'database is locked'. {seconds:.0f} s.")


#: How long the lock is held once every process stands before it.
HOLD_S = 0.15


def hold_the_lock(root: Path, door: Any, opened: Any) -> None:
    """Take the lock before anybody, keep it until all are there and a while longer."""
    with closing(sqlite3.connect(root / "embreg.db", timeout=60, isolation_level=None)) as plain:
        plain.execute("BEGIN IMMEDIATE")
        door.wait(120)
        time.sleep(HOLD_S)
        plain.execute("ROLLBACK")
    opened.wait(120)


def worker(root: Path, me: int, each: int, door: Any, opened: Any, answers: Any) -> None:
    """Register and move an alias, ``each`` times, meeting the others before each transaction."""
    waits = Waits()
    meeting = meet_at_the_lock(door, waits)
    wins = []
    with connect(root) as registry:
        for i in range(each):
            table = EmbeddingTable.from_arrays(None, small(me, i))
            with meeting(registry):
                done = registry.register("w", table, model=f"{me}.{i}")
            opened.wait(120)
            # Between two rounds nobody moves the alias: all of them expect, and want to replace, the same.
            now = registry.aliases("w").get("live")
            with meeting(registry):
                wins.append(moved(registry, done.version.ref, now))
            opened.wait(120)
    answers.put((me, waits.seconds, wins))
    answers.close()
    answers.join_thread()


def moved(registry: Registry, target: str, expected: str | None) -> bool:
    """Move the alias if it is where it was; return whether it was."""
    try:
        if expected is None:
            registry.alias("w", "live", target)
        else:
            registry.alias("w", "live", target, if_was=expected)
    except Conflict:
        return False
    return True


def small(me: int, i: int) -> np.ndarray:
    """Return the rows of one registration."""
    return np.random.default_rng((me, i)).standard_normal((50, 8), dtype=np.float32)


def meet_at_the_lock(door: Any, waits: Waits) -> Callable[[Registry], Any]:
    """Return what makes the first write transaction of a registry wait for the others, and time its wait."""

    @contextmanager
    def meeting(registry: Registry) -> Any:
        database = registry._home.database
        first = [True]

        @contextmanager
        def write() -> Any:
            if first.pop() if first else False:
                door.wait(120)
            began = time.perf_counter()
            with Database.write(database) as session:
                waits.seconds.append(time.perf_counter() - began)
                yield session

        database.write = write
        try:
            yield
        finally:
            del database.write

    return meeting


def agree(root: Path, processes: int, each: int, wins: list[bool]) -> None:
    """Every registration is there once, under a number of its own, and the alias has one unbroken history."""
    with connect(root) as registry:
        versions = registry.versions("w")
        count = processes * each
        demand([v.number for v in versions] == list(range(1, count + 1)), "numbers with a gap, or too few")
        for version in versions:
            me, i = map(int, str(version.space.model).split("."))
            demand(
                np.array_equal(registry.table(version).vectors, small(me, i)), f"{version.ref} is not whole"
            )
        demand(len({v.space.model for v in versions}) == count, "a registration was lost")
        history = registry.alias_history("w", "live")
        demand([m.old for m in history] == [None, *(m.new for m in history[:-1])], "a torn history")
        demand(history[-1].new == registry.aliases("w")["live"], "a torn alias")
        # In the first round nobody expects anything: all moves go through. Then one in each round.
        demand(sum(wins) == len(history) == processes + each - 1, f"{sum(wins)} wins, {len(history)} moves")
        demand(registry.verify().clean, "verify")
