"""kill -9 at random moments of every command that writes, and a look at what is left each time."""

from __future__ import annotations

# ruff: noqa: T201  a script that prints what it found
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from forks import ROWS, SOURCES, Bench, Words, demand, say, vectors

from embreg import EmbregError, Registry, connect

#: Kills come up to this many times the time a command takes; some come too late.
LATEST = 1.15
#: How a look at the registry says that the work of the command is done.
DONE = 3


@dataclass(frozen=True)
class Operation:
    """A command that is killed, again and again.

    Attributes:
        words: the command of a round; the same is run again after the kill, and must succeed.
        before: commands that make the state it starts from.
        holds: what must be so once it went through.
    """

    name: str
    words: Callable[[int], Words]
    before: Callable[[int], Sequence[Words]] = lambda _: ()
    holds: Callable[[Registry, int], bool] = lambda *_: True


def source(i: int) -> str:
    """Return the source of a round."""
    return f"{i % SOURCES}.npy"


#: One line for each command that writes. Rounds are numbered through, over all operations.
OPERATIONS = (
    Operation(
        "register",
        words=lambda i: ["register", "w", source(i), "--model", f"m{i}", "--alias", "newest"],
        holds=lambda r, i: r.resolve("w@newest").space.model == r.resolve("w").space.model == f"m{i}",
    ),
    Operation(
        "index build",
        words=lambda i: ["index", "build", f"i{i}", "w", "--factory", "IVF16,Flat"],
        holds=lambda r, i: not r.indexes(f"i{i}")[0].stale and len(r.search(f"i{i}", "5", 3)) == 3,
    ),
    Operation(
        "index rebuild",
        before=lambda i: [["register", "w", source(i), "--model", f"m{i}"]],
        words=lambda _: ["index", "rebuild", "flat"],
        holds=lambda r, _: not r.indexes("flat")[0].stale,
    ),
    Operation(
        "index rebuild, rows added or removed",
        before=lambda i: [["register", "g", f"{'grown' if i % 2 else 'small'}.npy"]],
        words=lambda _: ["index", "rebuild", "growing"],
        holds=lambda r, _: not r.indexes("growing")[0].stale,
    ),
    Operation(
        "derive",
        before=lambda i: [["register", "parent", source(i), "--model", f"m{i}"]],
        words=lambda _: ["derive", "parent", "--transform", "whiten", "--as", "child"],
        holds=lambda r, _: not r.derived("child")[0].state.stale,
    ),
    Operation(
        "alias set",
        words=lambda i: ["alias", "set", "w", "live", f"w@{i % 2 + 1}"],
        holds=lambda r, i: r.aliases("w")["live"] == f"w@{i % 2 + 1}",
    ),
    Operation(
        "gc",
        before=lambda i: [["register", "junk", source(i), "--model", f"junk{i}"], ["delete", "junk"]],
        words=lambda _: ["gc", "--grace", "0"],
        holds=lambda r, _: r.verify().orphans == 0,
    ),
)  # fmt: skip


@dataclass
class Tally:
    """What happened to one operation: cut off before or after its work was done, or through before the kill.

    ``seconds`` is what it takes now, so that the kills follow a machine that gets slower or faster.
    """

    before: int = 0
    after: int = 0
    through: int = 0
    staged: int = 0
    seconds: float = 0.0

    @property
    def cut(self) -> int:
        return self.before + self.after


def kills(bench: Bench, moments: int, seed: int) -> None:
    """Kill every operation at random moments, and look at what is left each time."""
    for words in (["init"], ["register", "w", "0.npy", "--alias", "live"], ["register", "w", "1.npy"],
                  ["register", "g", "small.npy"], ["index", "build", "flat", "w", "--factory", "Flat"],
                  ["index", "build", "growing", "g", "--factory", "Flat"]):  # fmt: skip
        bench.must(words)
    rng = np.random.default_rng(seed)
    tallies = {operation.name: Tally() for operation in OPERATIONS}
    for number, operation in enumerate(OPERATIONS):
        for words in operation.before(number):
            bench.must(words)
        began = time.perf_counter()
        bench.must(operation.words(number))
        tallies[operation.name].seconds = time.perf_counter() - began
    for i in range(len(OPERATIONS), len(OPERATIONS) + moments):
        operation = OPERATIONS[i % len(OPERATIONS)]
        tally = tallies[operation.name]
        kill(bench, operation, i, float(rng.uniform(0, LATEST * tally.seconds)), tally)
        if i % 30 == 0:
            say(f"  {i - len(OPERATIONS)} of {moments}")
    bench.silent()
    report(tallies)
    if moments >= 60 and not all(tally.cut for tally in tallies.values()):
        bench.fail("an operation was never cut off: the kills came too late to show anything")


def report(tallies: dict[str, Tally]) -> None:
    """Print what was killed, and that nothing was found."""
    print("\n| command | takes | cut off before its work was done | after | through | partial writes left |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, t in tallies.items():
        figures = f"{1000 * t.seconds:.0f} ms | {t.before} | {t.after} | {t.through} | {t.staged}"
        print(f"| {name} | {figures} |")
    cut = sum(t.cut for t in tallies.values())
    through = sum(t.through for t in tallies.values())
    print(f"\n{cut + through} kills, {cut} of which cut a command off. After each, verify was clean, every")
    print("finished version whole, every unfinished one invisible, and the same command went through.")


def kill(bench: Bench, operation: Operation, i: int, after: float, tally: Tally) -> None:
    """One round: kill, look, run again, look again."""
    for words in operation.before(i):
        bench.must(words)
    words = operation.words(i)
    staged = set((bench.root / "staging").iterdir())
    code = bench.run(words, kill_after=after)
    if code not in (0, -signal.SIGKILL):
        bench.fail(f"{' '.join(words)}: exit code {code}, neither done nor killed")
    tally.staged += len(set((bench.root / "staging").iterdir()) - staged)
    for left in (bench.root / "staging").iterdir():
        os.utime(left, (0, 0))  # as if it had died long ago: a sweep takes it

    def look() -> None:
        with connect(bench.root) as registry:
            whole(registry)
            sys.exit(DONE if done(operation, registry, i) else 0)

    seen = bench.do(look)
    if seen not in (0, DONE):
        bench.fail(f"after a kill of '{' '.join(words)}' at {1000 * after:.1f} ms, moment {i}")
    tally.through += code == 0
    tally.before += code != 0 and seen == 0
    tally.after += code != 0 and seen == DONE
    began = time.perf_counter()
    bench.must(words)
    if seen == 0:
        tally.seconds += 0.3 * (time.perf_counter() - began - tally.seconds)

    def look_again() -> None:
        with connect(bench.root) as registry:
            whole(registry)
            demand(operation.holds(registry, i), f"'{' '.join(words)}' run again did not do its work")

    if bench.do(look_again):
        bench.fail(f"after running '{' '.join(words)}' again, moment {i}")


def done(operation: Operation, registry: Registry, i: int) -> bool:
    """Whether the work of a round is done, as far as anybody can see."""
    try:
        return operation.holds(registry, i)
    except EmbregError:
        return False


def whole(registry: Registry) -> None:
    """Everything that can be seen is complete and agrees with everything else."""
    problems = registry.verify().problems
    demand(not problems, f"verify: {problems}")
    for name in ("w", "g"):
        versions = registry.versions(name)
        demand([v.number for v in versions] == list(range(1, len(versions) + 1)), "a gap in the numbers")
        models = [v.space.model for v in versions if v.space.model]
        demand(len(models) == len(set(models)), "a version was made twice")
        for version in versions:
            stem = Path(version.source).stem
            told = vectors(int(stem)) if stem.isdigit() else vectors(99, ROWS + 200)[: version.rows]
            table = registry.table(version)
            demand(np.array_equal(table.vectors, told), f"{version.ref} is not what was registered")
            demand(len(table.ids) == version.rows, f"{version.ref} has lost ids")
        moved = {m.alias: m.new for m in registry.alias_history(name)}
        demand(moved == dict(registry.aliases(name)), "an alias and its history disagree")
        made = [e.subject for e in registry.log(name) if e.action == "version.registered"]
        demand(made == [v.ref for v in versions], "the log and the versions disagree")
    for state in registry.indexes():
        table = registry.table(state.built_from)
        demand(state.rows == table.rows, f"index {state.name} holds other rows than {state.built_from}")
        demand(len(registry.search(state.name, "7", 3)) == 3, f"index {state.name} does not answer")
        latest = registry.resolve(state.built_from.split("@")[0]).ref
        demand(state.tracked == latest, f"index {state.name} was not judged")
