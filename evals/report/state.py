"""A registry at a glance, and what to do next: for a terminal and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...registry.errors import printable
from ..baselines import PRODUCTION

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...registry.state import Holding, State

#: So many embeddings, stale dependents, failures and commands are shown; JSON has all of the first three.
MOST, MOST_STEPS = 20, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command that somebody may want to type next, and why."""

    command: str
    why: str


def steps(found: State | None) -> tuple[Step, ...]:
    """Return what to do next, the most urgent first; without a registry, how to begin."""
    if found is None:
        return (
            Step(command="embreg init", why="make a registry here"),
            Step(command="embreg register NAME FILE", why="the first version of an embedding"),
            Step(command="embreg eval NAME", why="measure it"),
        )
    if not found.embeddings:
        return steps(None)[1:]
    return tuple(_urgent(found))[:MOST_STEPS]


def document(root: str, found: State | None) -> dict[str, Any]:
    """Return the state as plain JSON values; ``registry`` is null where there is none."""
    from .documents import dependent

    state = found
    return {
        "registry": root if state else None,
        "embeddings": [_embedding(e) for e in state.embeddings] if state else [],
        "stale": [dependent(d) for d in state.stale] if state else [],
        "failed": [
            {"run": f.id, "ref": f.ref, "suite": f.suite, "dataset": f.dataset, "baseline": f.baseline,
             "reason": f.reason}
            for f in (state.failed if state else ())
        ],
        "next": [{"command": step.command, "why": step.why} for step in steps(state)],
    }  # fmt: skip


def view(root: str, found: State | None) -> RenderableType:
    """Return the state for a person: what there is, what is wrong, what to do next."""
    from rich.console import Group
    from rich.text import Text

    if found is None:
        return Group(Text(f"no registry at {printable(root, 300)} yet"), *_steps(found))
    head = Text.assemble(("registry ", "bold"), printable(root, 300))
    if not found.embeddings:
        return Group(head, Text("nothing is registered yet"), *_steps(found))
    return Group(head, Text(), _embeddings(found), *_troubles(found), *_steps(found))


def _urgent(found: State) -> Iterator[Step]:
    for kind, command, what in (
        ("index", "embreg index rebuild --stale", "indexes"),
        ("derived", "embreg derive --stale", "derived embeddings"),
        ("external", "embreg dependent list", "dependents outside"),
    ):
        if count := sum(d.kind == kind for d in found.stale):
            yield Step(command=command, why=f"{count:,} stale {what}")
    for run in found.failed[:2]:
        again = f"embreg eval {run.ref} --suite {run.suite}"
        against = f" --baseline {run.baseline}" if run.baseline else ""
        yield Step(command=f"{again}{against}", why=f"{run.suite} failed on it")
    for one in found.embeddings:
        yield from _judging(one)
    yield Step(command="embreg --help", why="every command")


def _judging(one: Holding) -> Iterator[Step]:
    """Yield what the newest version of an embedding waits for: to be measured, judged, promoted."""
    last = one.verdict if one.verdict is not None and one.verdict.ref == one.latest else None
    named = one.aliases.get(PRODUCTION)
    if not one.measured:
        yield Step(command=f"embreg eval {one.latest}", why="nothing was measured of it")
    elif last is None:
        if named is not None and named != one.latest:
            yield Step(command=f"embreg gate {one.latest}", why=f"newer than {named}, and not judged")
    elif not last.passed:
        against = f" --baseline {last.baseline}" if last.baseline else ""
        yield Step(command=f"embreg report {one.latest}{against} -o report.html", why="its gate failed")
    elif last.baseline == named and named != one.latest:
        yield Step(command=f"embreg promote {one.latest} {PRODUCTION}", why="its gate passed")


def _embedding(e: Holding) -> dict[str, Any]:
    v = e.verdict
    return {
        "name": e.name,
        "versions": e.versions,
        "latest": e.latest,
        "rows": e.rows,
        "dim": e.dim,
        "registered": e.registered.isoformat(),
        "measured": e.measured,
        "aliases": dict(e.aliases),
        "verdict": None if v is None else {
            "ref": v.ref, "baseline": v.baseline, "passed": v.passed, "at": v.at.isoformat(),
            "reasons": list(v.reasons),
        },
    }  # fmt: skip


def _embeddings(found: State) -> RenderableType:
    from rich.console import Group

    from .tables import table

    columns = (
        "embedding", "latest", "aliases", ">rows", ">dim", ">versions?", "registered??", "last gate"
    )  # fmt: skip
    rows = (
        (e.name, f"@{e.latest.rpartition('@')[2]}", _aliases(e), e.rows, e.dim, e.versions, e.registered,
         _gate(e))
        for e in found.embeddings[:MOST]
    )  # fmt: skip
    return Group(table(columns, rows), *_more(len(found.embeddings), "embreg list"))


def _aliases(e: Holding) -> str:
    return ", ".join(f"{alias} @{ref.rpartition('@')[2]}" for alias, ref in e.aliases.items()) or "–"


def _gate(e: Holding) -> Any:
    from rich.text import Text

    if e.verdict is None:
        return "–"
    sign, word, style = ("✓", "passed", "green") if e.verdict.passed else ("✗", "failed", "bold red")
    return Text(f"{sign} @{e.verdict.ref.rpartition('@')[2]} {word}", style=style)


def _troubles(found: State) -> Iterator[RenderableType]:
    from rich.text import Text

    from .tables import table

    if found.stale:
        yield Text(f"\n{len(found.stale):,} stale", style="bold")
        rows = [
            (d.kind, d.name, f"{d.tracked or d.tracks}: {d.reason}", d.remedy) for d in found.stale[:MOST]
        ]
        yield table(("kind", "name", "why", "remedy"), rows)
        yield from _more(len(found.stale), "embreg dependent list")
    refused = [e.verdict for e in found.embeddings if e.verdict is not None and not e.verdict.passed]
    if refused or found.failed:
        yield Text("\nfailed last", style="bold")
    for v in refused[:MOST]:
        against = f" against {v.baseline}" if v.baseline else ""
        yield Text(
            f"✗ gate of {v.ref}{against}: {printable('; '.join(v.reasons) or 'nothing was judged', 300)}"
        )
    for run in found.failed[:MOST]:
        yield Text(f"✗ {printable(run.suite)} on {run.ref} (#{run.id}): {printable(run.reason, 300)}")


def _more(count: int, command: str) -> Iterator[RenderableType]:
    from rich.text import Text

    if count > MOST:
        yield Text(f"{count - MOST:,} more: {command}", style="dim")


def _steps(found: State | None) -> Iterator[RenderableType]:
    from rich.text import Text

    told = steps(found)
    yield Text("\nnext:", style="bold")
    broadest = max(len(step.command) for step in told)
    for step in told:
        blanks = " " * (broadest - len(step.command))
        yield Text.assemble(f"  {printable(step.command, 400)}", (f"{blanks}  # {step.why}", "dim"))
