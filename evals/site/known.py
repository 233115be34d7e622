"""What pages ask of a registry: each question once, in as few queries as there are questions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...registry.errors import CorruptBlob
from ..config import DEFAULT_REGISTRY
from ..discovery import discover

if TYPE_CHECKING:
    import pyarrow as pa

    from ...registry.overview import Made, RunHead
    from ...registry.registry import Registry
    from ...registry.types import (
        Dataset,
        Dependent,
        Event,
        IndexState,
        PastMove,
        RunRecord,
        VerdictRecord,
        Version,
    )
    from ..config import Check
    from ..suite import Suite

#: What pages are made by, apart from the package's version: these folders' files.
_MAKERS = (Path(__file__).parent, Path(__file__).parent.parent / "report")
#: So many lists of runs and tables of items are kept at hand: a comparison needs the runs of two
#: versions and the next one those of one of them again, the metrics of an embedding a list for each suite.
_RUNS, _TABLES = 24, 32


class Known:
    """A registry as one look at it saw it."""

    def __init__(
        self,
        registry: Registry,
        *,
        title: str | None = None,
        checks: Sequence[Check] = (),
        links: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.registry = registry
        root = registry.root
        self.title = title or f"Embeddings of {(root.parent if root.name == DEFAULT_REGISTRY else root).name}"
        self.checks, self.links = tuple(checks), tuple(links)
        self.runs = lru_cache(_RUNS)(self._runs)
        self.items = lru_cache(_TABLES)(self._items)
        self._moves: dict[str, tuple[PastMove, ...]] = {}

    @property
    def suites(self) -> Mapping[str, Suite]:
        """The suites there are, by name."""
        return discover()

    @cached_property
    def edition(self) -> str:
        """What all pages depend on: the package, its templates, the suites, how the site was asked for."""
        metrics = [
            (suite.name, suite.version, suite.doc, [(m.name, m.unit, m.better, m.doc) for m in suite.metrics])
            for suite in self.suites.values()
        ]
        return repr((__version__, _makers(), metrics, self.title, self.checks, self.links))

    # -- versions -----------------------------------------------------------------------------------------

    @cached_property
    def by_ref(self) -> dict[str, Version]:
        """Every living version by ``NAME@NUMBER``, by name and number."""
        return {version.ref: version for version in self.registry.versions()}

    @cached_property
    def by_name(self) -> dict[str, list[Version]]:
        """The living versions of each embedding, oldest first."""
        found: dict[str, list[Version]] = {}
        for version in self.by_ref.values():
            found.setdefault(version.name, []).append(version)
        return found

    @cached_property
    def neighbors(self) -> dict[str, tuple[Version | None, Version | None]]:
        """The living version before each, and the one after it."""
        return {
            own.ref: (before, after)
            for line in self.by_name.values()
            for before, own, after in zip([None, *line], line, [*line[1:], None], strict=False)
        }

    @cached_property
    def made(self) -> tuple[Made, ...]:
        """Which versions were computed from which."""
        return self.registry.made()

    @cached_property
    def families(self) -> dict[str, frozenset[str]]:
        """The versions that are related by derivation, by each of them; the others have none."""
        found: dict[str, frozenset[str]] = {}
        for one in self.made:
            refs = [ref for ref in (one.version, one.parent, one.target) if ref is not None]
            family = frozenset(refs).union(*(found.get(ref, ()) for ref in refs))
            found |= dict.fromkeys(family, family)
        return found

    def connected(self, version: Version) -> bool:
        """Return whether anything comes from a version, names it, or it comes from another."""
        return bool(version.aliases) or version.ref in self.families or version.ref in self.bases

    @cached_property
    def bases(self) -> frozenset[str]:
        """The versions that something was built from."""
        return frozenset(one.built_from for one in self.dependents if one.built_from is not None)

    # -- what was measured --------------------------------------------------------------------------------

    @cached_property
    def heads(self) -> dict[str, list[RunHead]]:
        """What the runs of each version are about."""
        found: dict[str, list[RunHead]] = {}
        for head in self.registry.run_heads():
            found.setdefault(head.version, []).append(head)
        return found

    @cached_property
    def verdicts(self) -> dict[str, VerdictRecord]:
        """The newest verdict on each version that has one."""
        return {verdict.version: verdict for verdict in self.registry.verdicts()}

    @cached_property
    def last_verdicts(self) -> dict[str, VerdictRecord]:
        """The newest verdict on any version of each embedding that has one."""
        return {ref.rpartition("@")[0]: verdict for ref, verdict in self.verdicts.items()}

    def compared(self, version: Version) -> list[Version]:
        """Return the versions that one is set beside: that of its verdict, and the one before it."""
        verdict = self.verdicts.get(version.ref)
        judged = self.by_ref.get(verdict.baseline) if verdict and verdict.baseline else None
        found = {v.ref: v for v in (judged, self.neighbors[version.ref][0]) if v is not None and v != version}
        return list(found.values())

    def _runs(self, ref_or_name: str, suite: str | None = None) -> tuple[RunRecord, ...]:
        return self.registry.runs(ref_or_name, suite=suite)

    def _items(self, digest: str) -> pa.Table | None:
        try:
            return self.registry.stored_table(digest)
        except CorruptBlob:
            return None

    # -- what depends on versions -------------------------------------------------------------------------

    @cached_property
    def dependents(self) -> tuple[Dependent, ...]:
        """Everything that follows a version."""
        return self.registry.dependents()

    @cached_property
    def indexes(self) -> tuple[IndexState, ...]:
        """The indexes, by name."""
        return self.registry.indexes()

    @cached_property
    def followers(self) -> dict[str, list[Dependent]]:
        """What follows each embedding that anything follows, stale ones first."""
        found: dict[str, list[Dependent]] = {}
        for one in sorted(self.dependents, key=lambda d: (not d.stale, d.kind, d.name)):
            found.setdefault(one.tracks.rpartition("@")[0], []).append(one)
        return found

    # -- the rest -----------------------------------------------------------------------------------------

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """The registered datasets."""
        return self.registry.datasets()

    @cached_property
    def newest_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        return max((event.id for event in self.registry.log(limit=1)), default=0)

    @cached_property
    def last_events(self) -> Mapping[str, Event]:
        """The newest event of each embedding."""
        return self.registry.last_events()

    @cached_property
    def protections(self) -> frozenset[str]:
        """The aliases, as ``NAME@ALIAS``, that move by promotion only."""
        return self.registry.protections()

    def moves(self, name: str) -> tuple[PastMove, ...]:
        """Return every move of the aliases of an embedding, oldest first."""
        if name not in self._moves:
            self._moves[name] = self.registry.alias_history(name)
        return self._moves[name]


def related(known: Known, ref: str) -> Any:
    """Return what the lineage of a version is made of, as a value that tells it apart."""
    family = known.families.get(ref, frozenset((ref,)))
    made = [one for one in known.made if one.version in family]
    aliases = sorted((own, known.by_ref[own].aliases) for own in family if own in known.by_ref)
    names = {own.rpartition("@")[0] for own in family}
    own = [d for d in known.dependents if d.built_from in family or (d.kind == "derived" and d.name in names)]
    return made, aliases, own


@cache
def _makers() -> str:
    """Return a digest of the code and the templates that pages are made by."""
    digest = hashlib.sha256()
    for folder in _MAKERS:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".j2", ".js", ".css"):
                digest.update(f"{path.relative_to(folder.parent)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
