"""Lineage: exactly what a version came from and what came from it, as a graph, a tree and Graphviz."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import insert

from embreg import EmbeddingTable, Registry, connect
from embreg.bench.crowded import crowd
from embreg.cli import main
from embreg.evals.deriving import derive, derive_stale
from embreg.registry.database import Database
from embreg.registry.errors import Conflict, VersionNotFound
from embreg.registry.lineage import Edge, Lineage, Node
from embreg.registry.orm_dependents import DerivedRow
from embreg.registry.orm_runs import RunRow
from embreg.registry.types import RunRecord, utc_now


def rows(seed: int, count: int = 60) -> EmbeddingTable:
    x = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(count)], x)


def measured(registry: Registry, ref: str, suite: str, **words: Any) -> None:
    digest = registry.resolve(ref).digest
    registry.record(RunRecord(suite=suite, suite_version=1, version=ref, version_digest=digest, **words))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An old and a new encoder, an adapter between them, a grandchild, and something of every kind."""
    root = tmp_path_factory.mktemp("family") / "registry"
    with connect(root, create=True) as registry:
        make_family(registry)
    return root


@pytest.fixture
def family(kept: Path, tmp_path: Path) -> Iterator[Registry]:
    """A copy that a test may change."""
    shutil.copytree(kept, tmp_path / "family")
    with connect(tmp_path / "family") as registry:
        yield registry


def make_family(registry: Registry) -> None:
    registry.register("old", rows(0), alias="production")
    registry.register("new", rows(1))
    derive(registry, "new", "adapter", name="bridge", to="old@production")
    derive(registry, "bridge", "normalize", name="unit", alias="live")
    registry.alias("old", "staging", "old@1")
    registry.index("flat", "old", factory="Flat", track="production")
    registry.index("unit-flat", "unit", factory="Flat")
    registry.add_dependent("search", "old@production", note="load it again")
    measured(registry, "bridge@1", "hubness", status="error", reason="once")
    measured(registry, "bridge@1", "hubness")
    measured(registry, "bridge@1", "similarity", dataset="pairs", status="skipped")
    measured(registry, "bridge@1", "similarity", dataset="others")


def graph(found: Lineage) -> tuple[set[tuple[str, str]], set[tuple[str, str, str]]]:
    """Return nodes as (id, state) and edges, after a look at their form."""
    ids = [node.id for node in found.nodes]
    assert len(set(ids)) == len(ids)
    assert len(set(found.edges)) == len(found.edges)
    assert {end for e in found.edges for end in (e.start, e.end)} <= set(ids)
    assert all(node.id.startswith(f"{node.kind}:") for node in found.nodes)
    return {(n.id, n.state) for n in found.nodes}, {(e.start, e.end, e.kind) for e in found.edges}


BRIDGE = {
    ("version:bridge@1", "fresh"),
    ("run:bridge@1:hubness", "done"),
    ("run:bridge@1:similarity on pairs", "skipped"),
    ("run:bridge@1:similarity on others", "done"),
    ("version:unit@1", "fresh"),
    ("alias:unit@live", ""),
    ("index:unit-flat", "fresh"),
}
BELOW_BRIDGE = {
    ("version:bridge@1", "run:bridge@1:hubness", "measured"),
    ("version:bridge@1", "run:bridge@1:similarity on pairs", "measured"),
    ("version:bridge@1", "run:bridge@1:similarity on others", "measured"),
    ("version:bridge@1", "version:unit@1", "normalize"),
    ("version:unit@1", "alias:unit@live", "named"),
    ("version:unit@1", "index:unit-flat", "built"),
}
OLD = {
    ("version:old@1", ""),
    ("alias:old@production", ""),
    ("alias:old@staging", ""),
    ("index:flat", "fresh"),
    ("external:search", "fresh"),
}
BELOW_OLD = {
    ("version:old@1", "alias:old@production", "named"),
    ("version:old@1", "alias:old@staging", "named"),
    ("version:old@1", "index:flat", "built"),
    ("version:old@1", "external:search", "built"),
    ("version:old@1", "version:bridge@1", "target"),
}
NEW = {("version:new@1", "")}
BELOW_NEW = {("version:new@1", "version:bridge@1", "adapter")}


@pytest.mark.parametrize(
    ("ref", "nodes", "edges"),
    [
        ("bridge@1", BRIDGE | OLD | NEW, BELOW_BRIDGE | BELOW_OLD | BELOW_NEW),
        ("unit@live", BRIDGE | OLD | NEW, BELOW_BRIDGE | BELOW_OLD | BELOW_NEW),
        ("old@production", BRIDGE | OLD, BELOW_BRIDGE | BELOW_OLD),
        ("new", BRIDGE | NEW, BELOW_BRIDGE | BELOW_NEW),
    ],
)
def test_nodes_and_edges_exactly(family: Registry, ref: str, nodes, edges) -> None:
    found = family.lineage(ref)
    assert found.ref == family.resolve(ref).ref
    assert graph(found) == (nodes, edges)
    assert found.nodes[0].label == found.ref


def test_what_became_stale_says_so_with_its_reason(family: Registry) -> None:
    appended = np.concatenate([rows(0).vectors, rows(5, 6).vectors])
    family.register("old", EmbeddingTable.from_arrays(rows(0, 66).ids, appended))
    family.alias("old", "production", "old@2")
    nodes = {node.id: node for node in family.lineage("old@1").nodes}
    for id_ in ("index:flat", "external:search"):
        assert (nodes[id_].state, nodes[id_].reason) == ("stale", "6 rows added of 60 -> add")
    assert nodes["version:bridge@1"].state == "fresh", "an adapter follows what it maps from"
    assert "alias:old@production" not in nodes
    family.register("new", rows(2))
    nodes = {node.id: node for node in family.lineage("old@1").nodes}
    bridge = nodes["version:bridge@1"]
    assert (bridge.state, bridge.reason) == ("stale", "60 rows changed of 60 (100%)")
    assert nodes["version:unit@1"].state == "fresh", "its own parent has not moved yet"
    derive_stale(family)
    now = {node.id: (node.state, node.reason) for node in family.lineage("new@2").nodes}
    assert now["version:bridge@2"] == ("fresh", "")
    old = {node.id: node.state for node in family.lineage("bridge@1").nodes}
    assert old["version:bridge@1"] == "", "a version that was followed by another one is judged no more"


def test_the_newest_build_of_an_index_is_where_it_hangs(family: Registry) -> None:
    family.register("old", rows(3), alias="production")
    assert family.rebuild("flat").built_from == "old@2"
    family.dependent_done("search")
    assert not {"index:flat", "external:search"} & {n.id for n in family.lineage("old@1").nodes}
    assert {"index:flat", "external:search"} <= {n.id for n in family.lineage("old@2").nodes}


def test_a_version_alone_is_its_lineage(registry: Registry) -> None:
    registry.register("docs", rows(0))
    registry.register("docs", rows(1))
    assert graph(registry.lineage("docs@1")) == ({("version:docs@1", "")}, set())


def test_an_adapter_of_a_version_to_itself_has_two_edges(registry: Registry) -> None:
    registry.register("docs", rows(0))
    derive(registry, "docs@1", "adapter", name="same", to="docs@1")
    edges = {
        ("version:docs@1", "version:same@1", "adapter"),
        ("version:docs@1", "version:same@1", "target"),
    }
    assert graph(registry.lineage("docs@1"))[1] == edges
    assert graph(registry.lineage("same@1"))[1] == edges


def test_deleted_versions(family: Registry) -> None:
    """One that something living came from stays; one that nothing came from is gone without a trace."""
    for ref in ("old@1", "new@1", "bridge@1"):
        with pytest.raises(Conflict, match=r"derived from it|alias"):
            family.delete(ref)
    family.remove_index("unit-flat")
    family.remove_alias("unit", "live")
    family.delete("unit@1")
    gone = ("version:unit@1", "alias:unit@live", "index:unit-flat")
    nodes, edges = graph(family.lineage("bridge@1"))
    assert nodes == {n for n in BRIDGE | OLD | NEW if n[0] not in gone}
    assert edges == {e for e in BELOW_BRIDGE | BELOW_OLD | BELOW_NEW if e[1] not in gone}
    with pytest.raises(VersionNotFound):
        family.lineage("unit@1")


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail instead of hanging."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def related(registry: Registry, pairs: list[tuple[int, int, int | None]]) -> None:
    """Write down which version ids came from which, and which they map to."""
    database = Database(registry.root / "embreg.db")
    told = {"transform": "center", "params": {}, "fitted": "0" * 64, "fitted_rows": 1, "quality": {}}
    with database.write() as session:
        session.execute(
            insert(DerivedRow),
            [{"version_id": child, "parent_id": parent, "target_id": target, **told}
             for child, parent, target in pairs],
        )  # fmt: skip
    database.close()


def test_a_ladder_of_adapters_is_walked_once(registry: Registry) -> None:
    """Every rung has the two before it as parents: there are 10^12 ways up, and 60 versions."""
    for seed in range(60):
        registry.register(f"rung-{seed}", rows(seed, 3))
    related(registry, [(n, n - 1, n - 2) for n in range(3, 61)])
    with at_most(20):
        for ref in ("rung-0", "rung-30", "rung-59"):
            found = registry.lineage(ref)
            assert len({n.id for n in found.nodes}) == len(found.nodes) >= 59
            assert_no_way_back(found)
        assert len(registry.lineage("rung-59").edges) == 2 * 58


def assert_no_way_back(found: Lineage) -> None:
    below: dict[str, set[str]] = {node.id: set() for node in found.nodes}
    for edge in found.edges:
        below[edge.start].add(edge.end)
    while leaves := {id_ for id_, ends in below.items() if not ends}:
        below = {id_: ends - leaves for id_, ends in below.items() if id_ not in leaves}
    assert not below, "a version is its own ancestor"


def test_a_circle_in_the_database_ends(registry: Registry) -> None:
    for name in ("a", "b"):
        registry.register(name, rows(0, 3))
    related(registry, [(1, 2, None), (2, 1, None)])
    with at_most(20):
        assert {n.label for n in registry.lineage("a").nodes} == {"a@1", "b@1"}


def test_no_version_becomes_its_own_ancestor(registry: Registry) -> None:
    """The same rows out of a newer parent are the same version: here that parent came out of it."""
    registry.register("a", rows(0))
    whole = {"dim": "6"}
    derive(registry, "a", "truncate", name="b", params=whole)
    for parent, child in (("b", "a"), ("a", "b")):
        try:
            derive(registry, parent, "truncate", name=child, params=whole)
        except Conflict:
            continue
    for ref in ("a@1", "b@1", "a"):
        with at_most(20):
            assert_no_way_back(registry.lineage(ref))


# -- as JSON, as a tree, for Graphviz -----------------------------------------------------------------


def run(registry: Registry, *words: str) -> str:
    env = {"EMBREG_REGISTRY": str(registry.root), "EMBREG_DEBUG": "1"}
    done = CliRunner(env=env).invoke(main, words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_json_is_the_graph(family: Registry) -> None:
    told = json.loads(run(family, "lineage", "bridge", "--json"))
    assert set(told) == {"ref", "nodes", "edges"}
    assert told["ref"] == "bridge@1"
    found = family.lineage("bridge")
    assert [Node(**node) for node in told["nodes"]] == list(found.nodes)
    assert [Edge(start=e["from"], end=e["to"], kind=e["kind"]) for e in told["edges"]] == list(found.edges)
    assert json.loads(run(family, "lineage", "bridge", "--json", "--dot")) == told


def test_the_tree(family: Registry) -> None:
    assert run(family, "lineage", "bridge").splitlines() == [
        "lineage of bridge@1",
        "├── new@1",
        "│   └── adapter: bridge@1",
        "│       ├── normalize: unit@1",
        "│       │   ├── alias unit@live",
        "│       │   └── index unit-flat (Flat)",
        "│       ├── run hubness  done",
        "│       ├── run similarity on others  done",
        "│       └── run similarity on pairs  skipped",
        "└── old@1",
        "    ├── target: bridge@1 (above)",
        "    ├── alias old@production",
        "    ├── alias old@staging",
        "    ├── index flat (Flat)",
        "    └── external search",
    ]


def test_the_tree_of_a_target_has_one_root(family: Registry) -> None:
    told = run(family, "lineage", "old").splitlines()
    assert told[:2] == ["lineage of old@1", "└── old@1"]
    assert "    ├── target: bridge@1" in told
    assert sum("bridge@1" in line for line in told) == 1


def test_what_is_stale_stands_out_in_the_tree(family: Registry) -> None:
    family.register("old", rows(4), alias="production")
    told = run(family, "lineage", "old@1")
    assert "index flat (Flat)  stale: 60 rows changed of 60 (100%) -> rebuild" in told
    assert "external search  stale: 60 rows changed of 60 (100%) -> rebuild" in told


QUOTED = r'"((?:[^"\\]|\\.)*)"'


def read_dot(text: str) -> tuple[dict[str, dict[str, str]], set[tuple[str, str, str]]]:
    """Read what Graphviz would: nodes with their attributes, edges with their labels; there is no more."""
    first, second, *lines, last = text.rstrip("\n").split("\n")
    assert (first, second, last) == ("digraph lineage {", "  rankdir=LR;", "}")
    nodes: dict[str, dict[str, str]] = {}
    edges: set[tuple[str, str, str]] = set()
    word = rf"(\w+)=({QUOTED}|[\w.]+)"

    def plain(quoted: str) -> str:
        return re.sub(r"\\(.)", r"\1", quoted)

    for line in lines:
        if edge := re.fullmatch(rf"  {QUOTED} -> {QUOTED} \[label={QUOTED}\];", line):
            edges.add((plain(edge[1]), plain(edge[2]), plain(edge[3])))
            continue
        node = re.fullmatch(rf"  {QUOTED} \[({word}(?:, {word})*)\];", line)
        assert node, line
        found = {m[1]: plain(m[3]) if m[3] is not None else m[2] for m in re.finditer(word, node[2])}
        nodes[plain(node[1])] = found
    return nodes, edges


def test_graphviz_reads_the_graph(family: Registry) -> None:
    family.register("old", rows(4), alias="production")
    found = family.lineage("bridge")
    nodes, edges = read_dot(run(family, "lineage", "bridge", "--dot"))
    assert edges == graph(found)[1]
    assert set(nodes) == {node.id for node in found.nodes}
    for node in found.nodes:
        given = nodes[node.id]
        assert given["label"] == (f"{node.label} ({node.state})" if node.state else node.label)
        assert ("fillcolor" in given) == (node.state == "stale")
        assert ("penwidth" in given) == (node.id == "version:bridge@1")
    shapes = {node.kind: nodes[node.id]["shape"] for node in found.nodes}
    assert len(set(shapes.values())) == len(shapes) == 5


HOSTILE = ['x"]; evil [label="', "a\\", '\\"', "\x1b[31m\n\u202e", "{<b>|}", "→ emoji 🦊", "'; --", "\\N\\l"]


@pytest.mark.parametrize("suite", HOSTILE)
def test_hostile_names_stay_inside_their_quotes(registry: Registry, suite: str) -> None:
    registry.register("docs", rows(0))
    measured(registry, "docs@1", suite)
    text = run(registry, "lineage", "docs", "--dot") + run(registry, "lineage", "docs")
    assert all(c.isprintable() or c == "\n" for c in text)
    nodes, edges = read_dot(run(registry, "lineage", "docs", "--dot"))
    assert len(nodes) == 2
    assert len(edges) == 1
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in suite)
    assert nodes["version:docs@1"]["label"] == "docs@1"
    assert nodes[f"run:docs@1:{shown}"]["label"] == f"{shown} (done)"
    assert json.loads(run(registry, "lineage", "docs", "--json"))["nodes"][1]["label"] == suite


# -- a long past --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """10,000 versions, 100,000 events; a chain over 40 embeddings, 160 children of the first, 20,000 runs."""
    root = tmp_path_factory.mktemp("crowded")
    crowd(root)
    with connect(root) as registry:
        chain = [(1 + k * 250, 1 + (k - 1) * 250, None) for k in range(1, 40)]
        related(registry, chain + [(252 + n, 1, 1 + 250 * (n % 2)) for n in range(160)])
        database = Database(root / "embreg.db")
        told = {"suite_version": 1, "params": {}, "status": "done", "reason": "", "seed": 0,
                "duration_s": 1.0, "cache_key": "0" * 64, "absent": [], "notes": [],
                "created_at": utc_now()}  # fmt: skip
        with database.write() as session:
            session.execute(
                insert(RunRow),
                [{"version_id": 1 + n % 10_000, "suite": f"s{n % 2}", **told} for n in range(20_000)],
            )
        database.close()
        yield registry


@pytest.mark.parametrize(
    ("ref", "versions"), [("embedding-000@1", 200), ("embedding-039@1", 40), ("embedding-020", 1)]
)
def test_a_lineage_takes_less_than_a_second_after_a_long_past(
    crowded: Registry, ref: str, versions: int
) -> None:
    took = []
    for _ in range(3):
        start = time.perf_counter()
        found = crowded.lineage(ref)
        took.append(time.perf_counter() - start)
        if took[-1] < 1:
            break
    assert min(took) < 1
    assert sum(node.kind == "version" for node in found.nodes) == versions
    assert sum(edge.kind == "measured" for edge in found.edges) >= versions
