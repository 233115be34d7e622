"""The JSON documents of the commands: their keys are a contract with other people's scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...registry.lineage import Lineage
    from ...registry.types import (
        AddedDataset,
        AliasMove,
        Dataset,
        Dependent,
        Derivation,
        Diff,
        Event,
        Exported,
        IndexState,
        PastMove,
        Pruned,
        Registered,
        RunRecord,
        Stale,
        Swept,
        Usage,
        Verified,
        Version,
    )
    from ..deriving import Applied, Derived
    from ..gate import Verdict

Document = dict[str, Any]
_AT_K = re.compile(r"@\d+\b")


def version(v: Version) -> Document:
    """Return a version."""
    return {
        "ref": v.ref,
        "name": v.name,
        "version": v.number,
        "digest": v.digest,
        "content_digest": v.content_digest,
        "rows": v.rows,
        "dim": v.dim,
        "dtype": v.dtype,
        "space": v.space.to_dict(),
        "aliases": list(v.aliases),
        "message": v.message,
        "source": v.source,
        "created_at": v.created_at.isoformat(),
        "created_by": v.created_by,
        "bytes": v.nbytes,
        "statistics": dict(v.statistics),
        "probes": v.probes,
    }


def embeddings(versions: Iterable[Version]) -> Document:
    """Return every embedding with its versions."""
    by_name: dict[str, list[Version]] = {}
    for v in versions:
        by_name.setdefault(v.name, []).append(v)
    return {
        "embeddings": [
            {
                "name": name,
                "latest": own[-1].number,
                "aliases": {alias: v.number for v in own for alias in v.aliases},
                "versions": [version(v) for v in own],
            }
            for name, own in by_name.items()
        ]
    }


def registered(done: Registered) -> Document:
    """Return what ``register`` did."""
    return (
        version(done.version)
        | {
            "created": done.created,
            "warnings": list(done.warnings),
        }
        | stale(done.stale)
    )


def stale(found: Stale) -> Document:
    """Return what a move left stale."""
    return {
        "stale_indexes": [index(i) for i in found.indexes],
        "stale_dependents": [dependent(d) for d in found.others],
    }


def dependent(d: Dependent) -> Document:
    """Return something that depends on a version, of any kind."""
    return {
        "name": d.name,
        "kind": d.kind,
        "tracks": d.tracks,
        "tracked": d.tracked,
        "built_from": d.built_from,
        "state": d.state,
        "relation": d.relation,
        "repair": d.repair,
        "reason": d.reason,
        "remedy": d.remedy,
    }


def derived(done: Derived) -> Document:
    """Return what ``derive`` did."""
    return registered(done.registered) | derivation(done.derivation) | {"refitted": done.refitted}


def applied(done: Applied) -> Document:
    """Return what ``apply`` wrote."""
    return {
        "ref": done.version.ref,
        "path": done.path,
        "rows": done.rows,
        "dim": done.dim,
        "notes": list(done.notes),
    }


def derivation(d: Derivation) -> Document:
    """Return how a version was computed from another one."""
    return {
        "parent": d.parent,
        "target": d.target,
        "transform": d.transform,
        "params": dict(d.params),
        "fitted": d.fitted,
        "fitted_rows": d.fitted_rows,
        "quality": dict(d.quality),
    }


def lineage(found: Lineage) -> Document:
    """Return a lineage as a graph."""
    return {
        "ref": found.ref,
        "nodes": [asdict(node) for node in found.nodes],
        "edges": [{"from": e.start, "to": e.end, "kind": e.kind} for e in found.edges],
    }


def index(state: IndexState) -> Document:
    """Return the state of an index."""
    return {
        "name": state.name,
        "tracks": state.tracks,
        "tracked": state.tracked,
        "built_from": state.built_from,
        "state": state.state,
        "relation": state.relation,
        "repair": state.repair,
        "reason": state.reason,
        "factory": state.factory,
        "search": state.search,
        "metric": state.metric,
        "rows": state.rows,
        "bytes": state.nbytes,
        "recall": state.recall,
        "recall_k": state.recall_k,
        "recall_queries": state.recall_queries,
        "method": state.method,
        "duration_s": state.duration_s,
        "built_at": state.built_at.isoformat(),
    }


def indexes(states: Iterable[IndexState]) -> Document:
    """Return the states of indexes."""
    return {"indexes": [index(state) for state in states]}


def diff(d: Diff, repair: str) -> Document:
    """Return what changed, and the repair that an index of a type that can do everything would need."""
    return {
        "old": d.old,
        "new": d.new,
        "relation": d.relation,
        "reordered": d.reordered,
        "added": d.added,
        "removed": d.removed,
        "changed": d.changed,
        "unchanged": d.unchanged,
        "space_changes": [asdict(change) for change in d.space_changes],
        "rescaled": d.rescaled,
        "repair": repair,
    }


def exported(done: Exported) -> Document:
    """Return what ``export`` wrote."""
    return {
        "ref": done.version.ref,
        "path": done.path,
        "rows": done.version.rows,
        "content_digest": done.version.content_digest,
        "notes": list(done.notes),
    }


def alias_move(move: AliasMove) -> Document:
    """Return the move of an alias."""
    return {
        "embedding": move.embedding,
        "alias": move.alias,
        "from": move.old,
        "to": move.new,
        **stale(move.stale),
    }


def events(given: Iterable[Event]) -> Document:
    """Return the log."""
    return {"events": [_event(event) for event in given]}


def _event(event: Event) -> Document:
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "detail": event.detail,
        "command": event.command,
    }


def neighbors(found: Iterable[tuple[str, float]], **asked: Any) -> Document:
    """Return neighbours or answers, best first."""
    return asked | {"neighbors": [{"id": item, "score": score} for item, score in found]}


def answers(found: Mapping[str, Sequence[tuple[str, float]]], **asked: Any) -> Document:
    """Return the neighbours of several queries."""
    return asked | {"queries": [neighbors(own, id=query) for query, own in found.items()]}


def dataset(d: Dataset) -> Document:
    """Return a dataset."""
    return asdict(d) | {"created_at": d.created_at.isoformat()}


def added_dataset(d: AddedDataset) -> Document:
    """Return what ``dataset add`` did."""
    return dataset(d) | {"created": d.created}


def datasets(given: Iterable[Dataset], builtin: Iterable[Dataset]) -> Document:
    """Return the registered datasets, and those that are built in."""
    return {"datasets": [dataset(d) for d in given], "builtin": [dataset(d) for d in builtin]}


def dataset_contents(
    d: Dataset, rows: Sequence[Mapping[str, Any]], counts: Mapping[str, Mapping[str, int]]
) -> Document:
    """Return a dataset with its first rows, and how many there are of each section, label or relevance."""
    named = {name: dict(of) for name, of in counts.items()}
    return dataset(d) | {"counts": named, "rows": [dict(row) for row in rows]}


def run(r: RunRecord) -> Document:
    """Return a run with its measures."""
    return {
        "id": r.id,
        "suite": r.suite,
        "suite_version": r.suite_version,
        "version": r.version,
        "baseline": r.baseline,
        "dataset": r.dataset,
        "status": r.status,
        "reason": r.reason,
        "verdict": r.verdict,
        "cached": r.cached,
        "duration_s": r.duration_s,
        "params": dict(r.params),
        "seed": r.seed,
        "confidence": r.confidence,
        "measures": [m.to_dict() for m in r.measures],
        "absent": [dict(a) for a in r.absent],
        "notes": list(r.notes),
        "items": r.items,
    }


def runs(given: Sequence[RunRecord]) -> Document:
    """Return runs."""
    return {"runs": [run(r) for r in given]}


def drift(r: RunRecord) -> Document:
    """Return a drift run with its verdict."""
    return {"verdict": r.verdict} | runs([r])


def history(steps: Sequence[RunRecord]) -> Document:
    """Return drift from each version to the next."""
    return {"history": [{"from": r.baseline, "to": r.version} | run(r) for r in steps]}


def series(given: Sequence[RunRecord], metric: str | None) -> Document:
    """Return one point per version, metric, labels and way of measuring: the newest measurement counts.

    Numbers of another suite version, of other parameters or dataset contents are points of their own.
    """
    points: dict[tuple[Any, ...], Document] = {}
    for r in given:
        measured = (r.suite_version, repr(sorted(r.params.items())), r.dataset_digest)
        about = ({"dataset": r.dataset} if r.dataset else {}) | (
            {"baseline": r.baseline} if r.baseline else {}
        )
        for m in r.measures:
            if metric is not None:
                names = {m.metric, _AT_K.sub("@k", m.metric)}
                if metric not in names | {f"{r.suite}.{name}" for name in names}:
                    continue
            labels = dict(m.labels) | about
            point = {"ref": r.version, "suite": r.suite, "dataset": r.dataset,
                     "metric": f"{r.suite}.{m.metric}", "labels": labels,
                     "value": m.value, "n": m.n, "low": m.low, "high": m.high,
                     "run": r.id, "confidence": r.confidence,
                     "suite_version": r.suite_version, "params": dict(r.params),
                     "dataset_digest": r.dataset_digest}  # fmt: skip
            points[(r.version, point["metric"], tuple(sorted(labels.items())), *measured)] = point
    return {"series": list(points.values())}


def gate(v: Verdict, indexes: Iterable[IndexState] = ()) -> Document:
    """Return a verdict, and which of the embedding's indexes are stale."""
    return v.to_dict() | {"stale_indexes": [index(i) for i in indexes if i.stale]}


def alias_history(moves: Iterable[PastMove]) -> Document:
    """Return the history of aliases."""
    return {
        "moves": [
            {"alias": m.alias, "from": m.old, "to": m.new, "at": m.at.isoformat(), "by": m.actor,
             "reason": m.reason}
            for m in moves
        ]
    }  # fmt: skip


def pruned(p: Pruned) -> Document:
    """Return what was pruned, and what was needed."""
    return {"dry_run": p.dry_run, "deleted": list(p.deleted), "needed": dict(p.needed)}


def usage(given: Iterable[Usage]) -> Document:
    """Return disk space by embedding."""
    return {
        "embeddings": [
            {"name": u.name, "versions": u.versions, "bytes": u.nbytes, "logical_bytes": u.logical}
            for u in given
        ]
    }


def swept(s: Swept) -> Document:
    """Return what a sweep removed or would remove."""
    return asdict(s) | {"removed": list(s.removed), "bytes": s.nbytes}


def verified(v: Verified) -> Document:
    """Return what a verification found."""
    problems = [asdict(problem) for problem in v.problems]
    return {"clean": v.clean, "blobs": v.blobs, "orphans": v.orphans, "problems": problems}


def error(kind: str, message: str, hint: str) -> Document:
    """Return what went wrong."""
    return {"error": {"type": kind, "message": message, "hint": hint}}
