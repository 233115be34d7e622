"""What the registry answers, for a terminal: one renderable per value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ...registry.errors import printable
from ..figures import number
from .tables import table

if TYPE_CHECKING:
    from ...registry.lineage import Lineage, Node
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
        Stale,
        Swept,
        Usage,
        Verified,
        Version,
    )
    from ..deriving import Applied, Derived


#: So many sections or classes of a dataset are told one by one.
_COUNTED = 50


def nbytes(count: int) -> str:
    """Return a size for people: ``76.3 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def versions(given: Sequence[Version]) -> RenderableType:
    """Return versions, one a line."""
    if not given:
        return Text("nothing is registered yet: 'embreg register NAME FILE'")
    columns = ("ref", "aliases", ">rows", ">dim", "dtype??", "metric??", ">size", "registered?", "message")
    rows = (
        (v.ref, ", ".join(v.aliases), number(v.rows), number(v.dim), v.dtype, v.space.metric,
         nbytes(v.nbytes), f"{v.created_at:%Y-%m-%d %H:%M}", v.message)
        for v in given
    )  # fmt: skip
    return table(columns, rows)


def version(v: Version, derivation: Derivation | None) -> RenderableType:
    """Return everything about a version."""
    facts: list[tuple[str, Any]] = [
        ("ref", v.ref),
        ("aliases", ", ".join(v.aliases)),
        ("shape", f"{v.rows:,} x {v.dim} {v.dtype}"),
        ("size", nbytes(v.nbytes)),
        ("digest", f"sha256:{v.digest}"),
        ("content", f"sha256:{v.content_digest}"),
        ("message", v.message),
        ("source", v.source),
        ("registered", f"{v.created_at:%Y-%m-%d %H:%M:%S} UTC by {v.created_by}"),
    ]
    if derivation is not None:
        onto = f" to {derivation.target}" if derivation.target else ""
        facts.append(("derived", f"{derivation.transform} of {derivation.parent}{onto}"))
        facts += [(f"  {name}", _plain(value)) for name, value in derivation.quality.items()]
    space = v.space.to_dict()
    facts += [(f"space.{name}", _plain(space[name])) for name in space if name not in ("dim", "dtype")]
    facts += [(name, _plain(value)) for name, value in v.statistics.items()]
    return _facts(facts)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _facts(facts: Iterable[tuple[str, str]]) -> RenderableType:
    lines = Text()
    for name, value in facts:
        lines.append(f"{name:<22}", style="dim")
        lines.append(f"{printable(value, 1000)}\n")
    lines.right_crop(1)
    return lines


def registered(done: Registered) -> RenderableType:
    """Return what ``register`` did, what to know of it, and what is stale by it."""
    v = done.version
    what = "registered" if done.created else "already is"
    head = Text.assemble(f"{what} ", (v.ref, "bold"), f"  {v.rows:,} x {v.dim} {v.dtype}, {nbytes(v.nbytes)}")
    facts = Text(f"content sha256:{v.content_digest[:16]}…  {v.space.metric}, kind {v.space.kind}"
                 f"{', normalised' if v.space.normalised else ''}", style="dim")  # fmt: skip
    warnings = [Text(f"! {printable(w, 500)}", style="yellow") for w in done.warnings]
    return Group(head, facts, *warnings, *_stale(done.stale))


def _stale(stale: Stale) -> list[Text]:
    told = [
        f"! index {s.name} is stale: {s.reason} -> {s.repair} ('embreg index rebuild {s.name}')"
        for s in stale.indexes
    ]
    told += [f"! {d.kind} {d.name} is stale: {d.reason} -> {d.repair} ({d.remedy})" for d in stale.others]
    return [Text(printable(line, 1000), style="yellow") for line in told]


def derived(done: Sequence[Derived]) -> RenderableType:
    """Return what was derived, from what, and how good it is."""
    if not done:
        return Text("nothing derived is stale")
    lines: list[RenderableType] = []
    for one in done:
        d = one.derivation
        onto = f" to {d.target}" if d.target else ""
        fit = "fitted anew" if one.refitted else "same fit as before"
        quality = ", ".join(f"{name} {_plain(value)}" for name, value in d.quality.items())
        lines.append(registered(one.registered))
        lines.append(Text(f"{d.transform} of {d.parent}{onto}, {fit}{f': {quality}' if quality else ''}"))
    return Group(*lines)


def applied(done: Applied) -> RenderableType:
    """Return what ``apply`` wrote, and what to know of it."""
    head = f"wrote {printable(done.path)}: {done.rows:,} x {done.dim}, as {done.version.ref} was made"
    return Group(Text(head), *(Text(f"! {printable(note, 500)}", style="yellow") for note in done.notes))


def dependents(given: Sequence[Dependent]) -> RenderableType:
    """Return dependents of every kind with their state and what repairs them."""
    if not given:
        return Text("nothing depends on anything yet: 'embreg index build', 'derive', 'dependent add'")
    columns = ("=", "kind??", "name", "tracks?", "built from??", "repair", "reason", "remedy")
    return table(
        columns,
        (
            ("✗" if d.stale else "✓", d.kind, d.name, d.tracks, d.built_from or "–", d.repair, d.reason,
             d.remedy if d.stale else "")
            for d in given
        ),
    )  # fmt: skip


def lineage(found: Lineage) -> RenderableType:
    """Return a lineage as a tree; a version that has two parents is told in full below the first."""
    nodes = {node.id: node for node in found.nodes}
    ends = {e.end for e in found.edges if e.kind != "target" or e.start not in nodes}
    tree = Tree(Text("lineage of ") + Text(found.ref, style="bold"), guide_style="dim")
    told: set[str] = set()

    def grow(branch: Tree, node: Node, by: str) -> None:
        label = _node(node, by, bold=node.label == found.ref and node.kind == "version")
        if node.id in told:
            branch.add(label + Text(" (above)", style="dim"))
            return
        told.add(node.id)
        below = branch.add(label)
        for edge in found.edges:
            if edge.start == node.id:
                grow(below, nodes[edge.end], edge.kind)

    for node in found.nodes:
        if node.id not in ends and node.id not in told:
            grow(tree, node, "")
    return tree


def _node(node: Node, by: str, *, bold: bool) -> Text:
    kind = "" if node.kind == "version" else f"{node.kind} "
    label = Text(f"{by}: " if node.kind == "version" and by else "", style="dim")
    label.append(f"{kind}{printable(node.label, 300)}", style="bold" if bold else "")
    if node.state and node.state != "fresh":
        label.append(f"  {node.state}{f': {printable(node.reason, 300)}' if node.reason else ''}",
                     style="yellow" if node.state == "stale" else "dim")  # fmt: skip
    return label


def dot(found: Lineage) -> str:
    """Return a lineage in the language of Graphviz."""
    shapes = {"version": "box", "index": "cylinder", "alias": "cds", "external": "component", "run": "note"}

    def quoted(text: str) -> str:
        escaped = printable(text, 500).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    lines = ["digraph lineage {", "  rankdir=LR;"]
    for node in found.nodes:
        style = ', style=filled, fillcolor="#ffe9b3"' if node.state == "stale" else ""
        bold = ", penwidth=2" if node.kind == "version" and node.label == found.ref else ""
        label = quoted(f"{node.label} ({node.state})" if node.state else node.label)
        lines.append(f"  {quoted(node.id)} [label={label}, shape={shapes[node.kind]}{style}{bold}];")
    lines += [f"  {quoted(e.start)} -> {quoted(e.end)} [label={quoted(e.kind)}];" for e in found.edges]
    return "\n".join([*lines, "}"])


def exported(done: Exported) -> RenderableType:
    """Return what ``export`` wrote, and what the format could not keep."""
    head = Text(f"wrote {done.version.ref} to {printable(done.path)}: {done.version.rows:,} rows")
    return Group(head, *(Text(f"! {printable(note, 500)}", style="yellow") for note in done.notes))


def alias_move(move: AliasMove) -> RenderableType:
    """Return the move of an alias and what is stale by it."""
    head = f"{move.embedding}@{move.alias}: {move.old or '–'} -> {move.new or 'removed'}"
    return Group(Text(head), *_stale(move.stale))


def aliases(given: Mapping[str, str], protected: Sequence[str]) -> RenderableType:
    """Return the aliases of an embedding."""
    if not given:
        return Text("no aliases")
    rows = ((alias, ref, "moves by promotion only" if alias in protected else "")
            for alias, ref in given.items())  # fmt: skip
    return table(("alias", "version", "protected"), rows)


def diff(d: Diff, repair: str) -> RenderableType:
    """Return what changed between two versions."""
    facts = [
        ("relation", f"{d.relation}{' (reordered)' if d.reordered else ''}"),
        ("added", f"{d.added:,}"),
        ("removed", f"{d.removed:,}"),
        ("changed", f"{d.changed:,}{' (in length only)' if d.rescaled else ''}"),
        ("unchanged", f"{d.unchanged:,}"),
        ("repair of an index", repair),
    ]
    facts += [("space", str(c)) for c in d.space_changes]
    return Group(Text(f"{d.old} -> {d.new}", style="bold"), _facts(facts))


def indexes(states: Sequence[IndexState]) -> RenderableType:
    """Return the state of indexes, one a line, and the cause of each stale one."""
    from ...registry.relations import Stale

    if not states:
        return Text("no indexes: 'embreg index build NAME REF --factory S'")
    columns = (
        "index",
        "=state",
        "=repair",
        "tracks?",
        "built from??",
        "factory??",
        ">rows",
        ">size",
        ">recall",
    )
    rows = (
        (s.name, _state(s), str(s.repair), s.tracks, f"{s.built_from} ({s.method})", s.factory, s.rows,
         nbytes(s.nbytes), None if s.recall is None else f"{s.recall:.4f} @{s.recall_k}")
        for s in states
    )  # fmt: skip
    return Group(table(columns, rows), *_stale(Stale(indexes=tuple(s for s in states if s.stale))))


def _state(s: IndexState) -> Text:
    return Text("✗ stale", style="yellow") if s.stale else Text("✓ fresh", style="green")


def neighbors(found: Iterable[tuple[str, float]]) -> RenderableType:
    """Return neighbours, best first."""
    return table((">#", "id", ">score"), ((i, item, f"{s:.6f}") for i, (item, s) in enumerate(found, 1)))


def answers(found: Mapping[str, Sequence[tuple[str, float]]]) -> RenderableType:
    """Return the neighbours of several queries, one query a line, best first."""
    rows = ((query, ", ".join(f"{item} {score:.4f}" for item, score in own)) for query, own in found.items())
    return table(("query", "nearest"), rows)


def events(given: Sequence[Event], earlier: int) -> RenderableType:
    """Return the log, oldest first, and how many events came before."""
    columns = ("at (UTC)", "action", "subject", "detail", "by?")
    rows = ((f"{e.at:%Y-%m-%d %H:%M:%S}", e.action, e.subject, _detail(e.detail), e.actor) for e in given)
    shown = table(columns, rows)
    return Group(Text(f"{earlier:,} earlier events: --all", style="dim"), shown) if earlier else shown


def _detail(detail: Mapping[str, Any]) -> str:
    told = [(k, v) for k, v in detail.items() if v not in (None, "", [])]
    return ", ".join([f"{k}={str(v)[:16] if k == 'digest' else v}" for k, v in told])


def added_dataset(d: AddedDataset) -> RenderableType:
    """Return what ``dataset add`` did, and what to know of the rows."""
    if d.created:
        what = "would be added" if d.dry_run else "added"
        what += f", in place of {d.replaced[:12]}" if d.replaced else ""
    else:
        what = "already there: the same rows"
    told = f"  {d.items:,} {d.kind}, {what}"
    facts = f"sha256:{d.digest[:16]}…  {d.licence or 'no licence is told'}  {d.source}"
    warnings = [Text(f"! {printable(w, 500)}", style="yellow") for w in d.warnings]
    return Group(Text.assemble((d.name, "bold"), told), Text(printable(facts, 1000), style="dim"), *warnings)


def datasets(given: Sequence[Dataset], builtin: Sequence[Dataset]) -> RenderableType:
    """Return the datasets, one a line: the registered ones, then those that are built in."""
    columns = ("dataset", "kind", ">items", "=digest???", "licence?", ">warnings", "source??")
    rows = [
        (d.name, d.kind, d.items, d.digest[:12], d.licence, len(d.warnings) or "", source)
        for d, source in [*((d, d.source) for d in given), *((d, "built in") for d in builtin)]
    ]
    hint = Text("none is registered: 'embreg dataset add NAME FILE --kind KIND'", style="dim")
    return table(columns, rows) if given else Group(hint, table(columns, rows))


def dataset_contents(
    d: Dataset, rows: Sequence[Mapping[str, Any]], counts: Mapping[str, Mapping[str, int]]
) -> RenderableType:
    """Return everything about a dataset, and its first rows."""
    facts = [
        ("dataset", d.name),
        ("kind", d.kind),
        ("items", f"{d.items:,}"),
        ("digest", f"sha256:{d.digest}"),
        ("licence", d.licence or "–"),
        ("source", d.source),
        ("added", f"{d.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    warnings = [Text(f"! {printable(w, 500)}", style="yellow") for w in d.warnings]
    counted = [_counted(name, list(of.items())) for name, of in counts.items()]
    shown = [[_cell(value) for value in row.values()] for row in rows]
    return Group(_facts(facts), *warnings, *counted, *([table(tuple(rows[0]), shown)] if rows else []))


def _counted(name: str, told: Sequence[tuple[str, int]]) -> RenderableType:
    """Return how many items there are of each section or class."""
    more = [(f"{len(told) - _COUNTED:,} more", None)] if len(told) > _COUNTED else []
    return table((name, ">items"), [*told[:_COUNTED], *more])


def _cell(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else _plain(value)


def alias_history(moves: Sequence[PastMove]) -> RenderableType:
    """Return the history of aliases, oldest first."""
    rows = (
        (f"{m.at:%Y-%m-%d %H:%M:%S}", m.alias, m.old or "–", m.new or "–", m.reason, m.actor) for m in moves
    )
    return table(("at (UTC)", "alias", "from", "to", "reason", "by?"), rows)


def pruned(p: Pruned) -> RenderableType:
    """Return what was pruned, and what was needed."""
    verb = "would delete" if p.dry_run else "deleted"
    told = [Text(f"{verb} {', '.join(p.deleted) or 'nothing'}")]
    told += [
        Text(f"! {ref} stays: needed by {printable(why, 500)}", style="yellow")
        for ref, why in p.needed.items()
    ]
    freed = [] if p.dry_run or not p.deleted else [Text("'embreg gc' frees the space", style="dim")]
    return Group(*told, *freed)


def usage(given: Sequence[Usage]) -> RenderableType:
    """Return disk space by embedding."""
    rows = ((u.name, u.versions, nbytes(u.nbytes), nbytes(u.logical)) for u in given)
    return table(("embedding", ">versions", ">on disk", ">without sharing"), rows)


def swept(s: Swept) -> RenderableType:
    """Return what a sweep removed or would remove."""
    verb = "would remove" if s.dry_run else "removed"
    spared = f", {s.young} too young to tell" if s.young else ""
    return Text(
        f"{verb} {len(s.removed)} blobs and {s.staged} partial writes, {nbytes(s.nbytes)}; "
        f"{s.kept} in use{spared}"
    )


def verified(v: Verified) -> RenderableType:
    """Return what a verification found, damage by damage."""
    if v.clean:
        orphans = f"; {v.orphans} nothing refers to ('embreg gc')" if v.orphans else ""
        return Text(f"✓ {v.blobs} blobs are what was stored{orphans}", style="green")
    rows = [(p.subject, p.blob[:12], p.what, p.remedy) for p in v.problems]
    head = Text(f"✗ {len(v.problems)} problems in {v.blobs} blobs", style="bold red")
    return Group(head, table(("what", "=blob?", "is", "remedy"), rows))
