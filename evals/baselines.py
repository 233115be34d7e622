"""Which version a report holds another one against, and why that one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry.errors import NotFound, UsageError

if TYPE_CHECKING:
    from ..registry.registry import Registry
    from ..registry.types import Version

#: Where nobody says, the version that this alias names.
PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The version to compare with.

    Attributes:
        version: None where there is none.
        why: that one, or none, in a few words.
    """

    version: Version | None
    why: str


def chosen(registry: Registry, version: Version, asked: str | None, *, none: bool = False) -> Choice:
    """Return the version that a report compares with.

    That is the one asked for; else, as for the gate, the one that ``NAME@production`` names, if that is
    another version; else the one that the last verdict or comparison was against; else the version before.

    Raises:
        UsageError: a version is asked for, and none.
        NotFound: the version that is asked for is not there.
    """
    if asked is not None and none:
        raise UsageError("give a baseline, or say that there is none: not both")
    if none:
        return Choice(version=None, why="no baseline, as asked")
    alias = f"{version.name}@{PRODUCTION}"
    found = _there(registry, alias)
    if asked is not None:
        named = registry.resolve(asked)
        return Choice(version=named, why=alias if found and named.ref == found.ref else "as asked")
    if found is not None and found.digest != version.digest:
        return Choice(version=found, why=alias)
    last = last_compared(registry, version)
    if last is not None and (found := _there(registry, last)) is not None:
        return Choice(version=found, why="what it was last compared with")
    gone = f"{last}, which it was last compared with, is deleted" if last is not None else ""
    before = [v for v in registry.versions(version.name) if v.number < version.number]
    if before:
        told = f"the version before it; {gone}" if gone else "the version before it"
        return Choice(version=max(before, key=lambda v: v.number), why=told)
    return Choice(version=None, why=gone or "there is no other version before it")


def last_compared(registry: Registry, version: Version) -> str | None:
    """Return what a gate or a suite last held a version against, whether or not that is still there."""
    own = (event for event in reversed(registry.log(version.name)) if event.subject == version.ref)
    against = (event.detail.get("baseline") for event in own if event.action.startswith(("gate.", "run.")))
    return next((str(ref) for ref in against if ref and ref != version.ref), None)


def _there(registry: Registry, ref: str) -> Version | None:
    try:
        return registry.resolve(ref)
    except NotFound:
        return None
