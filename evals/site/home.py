"""The home page: every embedding at a glance, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import recorded
from ..baselines import PRODUCTION
from ..report import headline
from .page import HOME, Page, Route, embedding_path, version_path
from .rendering import render, word

if TYPE_CHECKING:
    from ...registry.types import Event, Version
    from .known import Known

#: So many things to do are named.
_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """An embedding in one row.

    Attributes:
        versions: how many there are.
        aliases: each with its version.
        followers, stale: how many things follow it, and how many of them are stale.
        judged: the version of the newest verdict, None where there is none.
        passed: what that verdict was, ``headline`` in words.
        last: the newest event.
    """

    name: str
    path: str
    latest: Version
    versions: int
    aliases: tuple[tuple[str, str], ...]
    followers: int
    stale: int
    judged: str | None
    passed: bool
    headline: str
    last: Event | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something to do next: why, the command, and the page that tells more."""

    reason: str
    command: str
    path: str


def routes(known: Known) -> Iterator[Route]:
    """Yield the page."""
    yield Route(path=HOME, inputs=lambda: _inputs(known), make=lambda: _page(known))


def _inputs(known: Known) -> object:
    measured = [ref for ref in known.by_ref if known.heads.get(ref)]
    return list(known.by_ref.values()), known.dependents, known.verdicts, known.last_events, measured


def _page(known: Known) -> Page:
    steps = list(_steps(known))
    return render(
        known, HOME, "home.html.j2", known.title,
        glances=[_glance(known, name) for name in known.by_name],
        steps=steps[:_MOST], more=len(steps) - _MOST,
    )  # fmt: skip


def _glance(known: Known, name: str) -> Glance:
    line = known.by_name[name]
    followers = known.followers.get(name, [])
    judged = known.last_verdicts.get(name)
    return Glance(
        name=name,
        path=embedding_path(name),
        latest=line[-1],
        versions=len(line),
        aliases=tuple((alias, version.ref) for version in line for alias in version.aliases),
        followers=len(followers),
        stale=sum(d.stale for d in followers),
        judged=judged.version if judged else None,
        passed=judged.passed if judged else False,
        headline=headline(recorded.rehydrated(judged, known.suites)) if judged else "",
        last=known.last_events.get(name),
    )


def _steps(known: Known) -> Iterator[Step]:
    """Yield what is to be done: what is stale first, then latest versions that nobody measured or judged."""
    for dependent in known.dependents:
        if dependent.stale:
            name = dependent.tracks.rpartition("@")[0]
            yield Step(
                reason=f"{dependent.kind} {dependent.name} is stale: {dependent.reason}",
                command=dependent.remedy,
                path=embedding_path(name),
            )
    for line in known.by_name.values():
        latest = line[-1]
        verdict = known.verdicts.get(latest.ref)
        ref, path = word(latest.ref), version_path(latest.ref)
        if not known.heads.get(latest.ref):
            yield Step(reason=f"{latest.ref} was not measured", command=f"embreg eval {ref}", path=path)
        elif verdict is None:
            yield Step(reason=f"{latest.ref} was not judged", command=f"embreg gate {ref}", path=path)
        elif not verdict.passed:
            told = f"{latest.ref} failed its gate: what got worse?"
            other = f" --baseline {word(verdict.baseline)}" if verdict.baseline in known.by_ref else ""
            yield Step(reason=told, command=f"embreg report {ref}{other} -o report.html", path=path)
        elif (live := _live(line)) not in (None, latest.ref):
            told = f"{latest.ref} passed its gate, and {PRODUCTION} names {live}"
            command = (
                f"embreg promote {ref} {PRODUCTION}" if verdict.baseline == live else f"embreg gate {ref}"
            )
            yield Step(reason=told, command=command, path=path)


def _live(line: list[Version]) -> str | None:
    """Return the version that is in production."""
    return next((version.ref for version in line if PRODUCTION in version.aliases), None)
