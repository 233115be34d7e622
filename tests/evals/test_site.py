"""A registry as pages: all lead somewhere, each has a key that tells it apart, a directory stays whole."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from embreg import EmbeddingTable, Registry, connect, evaluate
from embreg.evals.config import Check
from embreg.evals.deriving import derive
from embreg.evals.site import page as places
from embreg.evals.site import writing
from embreg.evals.site.layout import DOWN, HEIGHT, Link, Thing, laid_out
from embreg.evals.site.log import EVENTS
from embreg.evals.site.site import Site
from embreg.evals.site.writing import MANIFEST, write_site
from embreg.registry.errors import EmbregError, NotFound, StorageError, UsageError
from embreg.registry.orm import EventRow
from embreg.registry.types import VerdictRecord

EVIL = "\"'><script>alert(1)</script>\u202e{{7*7}}</title>"
CHECK = Check(metric="anisotropy.mean_cosine", max=0.4)


def table(seed: int = 0, rows: int = 90) -> EmbeddingTable:
    vectors = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(rows)], vectors)


def verdict(registry: Registry, new: str, old: str, *, passed: bool) -> None:
    check = {
        "metric": "anisotropy.mean_cosine", "labels": {}, "value": 0.1, "baseline": 0.2, "bound": "<= 0.4",
        "outcome": "passed" if passed else "failed", "reason": EVIL, "severity": "critical",
    }  # fmt: skip
    digests = [registry.resolve(ref).digest for ref in (new, old)]
    registry.record_verdict(
        VerdictRecord(
            version=new, version_digest=digests[0], baseline=old, baseline_digest=digests[1],
            passed=passed, config_digest="0" * 64, checks=(check,),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a bit of everything, and hostile words wherever words are free."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "pairs.tsv").write_text("".join(f"id{i}\tid{i + 1}\t{i % 10}\n" for i in range(60)))
    with connect(folder / "registry", create=True) as registry:
        registry.register(
            "words", table(0), message=EVIL, model=EVIL, tags={"team": EVIL}, alias="production"
        )
        registry.add_dataset("pairs", folder / "pairs.tsv", "pairs", licence=EVIL, source=EVIL)
        registry.index("words-flat", "words", factory="Flat", track="production")
        evaluate("words@1", registry=registry, suites=["anisotropy", "similarity", "index"])
        registry.register("words", table(1))
        evaluate("words@2", baseline="words@1", registry=registry, suites=["anisotropy", "drift", "hubness"])
        verdict(registry, "words@2", "words@1", passed=True)
        registry.alias("words", "production", "words@2")
        derive(registry, "words@2", "center", name="words/centred")
        registry.add_dependent("search", "words@production", note=EVIL)
        registry.register("words", table(2, rows=80))
        verdict(registry, "words@3", "words@1", passed=False)
        registry.register("other", table(3), message="alone")
    return folder / "registry"


@pytest.fixture
def root(told: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(told, tmp_path / "copy"))


@pytest.fixture
def own(root: Path) -> Iterator[Registry]:
    with connect(root) as registry:
        yield registry


def made(registry: Registry, **asked: Any) -> dict[str, bytes]:
    """Every page by its path."""
    site = Site(registry, checks=[CHECK], **asked)
    return {path: site.page(path).content for path in site.paths()}


class Seen(HTMLParser):
    """What a page holds: its addresses, anchors, tags, attributes and text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.attributes |= set(found)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[key] for key in ("href", "src", "action", "data-index") if key in found]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def pages(told: Path) -> dict[str, bytes]:
    with connect(told) as registry:
        return made(registry)


# -- pages -----------------------------------------------------------------------------------------------


def test_every_address_leads_to_a_page_and_every_anchor_is_there(pages: dict[str, bytes]) -> None:
    seen = {path: Seen(content) for path, content in pages.items() if path.endswith(".html")}
    reached = set()
    for path, page in seen.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in (link for link in page.links if link != "data:,"):
            target, _, anchor = link.partition("#")
            there = normpath(join(dirname(path), target)) if target else path
            assert there in pages, f"{path}: {link}"
            assert not anchor or anchor in seen[there].ids, f"{path}: {link}"
            reached.add(there)
    unreached = set(pages) - reached
    assert not unreached


def test_there_is_a_page_for_each_thing(pages: dict[str, bytes]) -> None:
    versions = [
        places.version_path(ref) for ref in ("words@1", "words@2", "words@3", "words/centred@1", "other@1")
    ]
    pairs = [("words@1", "words@2"), ("words@2", "words@3"), ("words@1", "words@3")]
    compared = [places.comparison_path(old, new) for old, new in pairs]
    assert {*versions, *compared, places.metrics_path("words", "drift")} <= set(pages)
    assert {p for p in pages if p.startswith("versions/")} == set(versions)
    assert {p for p in pages if p.startswith("comparisons/")} == set(compared)


def test_nothing_hostile_comes_alive(pages: dict[str, bytes]) -> None:
    for path, content in pages.items():
        text = content.decode()
        if path.endswith(".html"):
            page = Seen(content)
            assert not [name for name in page.attributes if name.startswith("on")], path
            assert text.index("Content-Security-Policy") < text.index("<script"), path
        if not path.startswith("assets/"):
            assert "<script>" not in text, path
            assert "\u202e" not in text, path
    index = pages["assets/search-index.js"].decode()
    assert "<" not in index
    assert "\u202e" not in index
    entries = json.loads(index.removeprefix("window.embregIndex = ").rstrip().removesuffix(";"))
    assert any("<script>alert(1)</script>" in words for _, _, words, _ in entries)  # as text, for textContent


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("index.html", ["words@3 fails against words@1", "2 of 3 stale", "embreg index rebuild words-flat"]),
        (
            places.embedding_path("words"),
            ["production → words@2", "anisotropy.mean_cosine", "with 2", "search"],
        ),
        (
            places.version_path("words@2"),
            ["May ship", "production", "mean_cosine", "hubness", "words/centred@1"],
        ),
        (
            places.version_path("words@1"),
            ["The gate was not run on this version", "spearman"],
        ),
        (
            places.comparison_path("words@1", "words@2"),
            ["changed", "Drift says", "90", "mean_cosine", "better"],
        ),
        (places.comparison_path("words@2", "words@3"), ["drift between the two was not measured", "10"]),
        ("dependents.html", ["words-flat", "stale", "rebuild", "search"]),
        ("lineage.html", ["words/centred", "index words-flat", "external search"]),
        ("datasets.html", ["pairs", "60"]),
        ("log.html", ["version.registered", "gate.failed", "alias.moved"]),
    ],
    ids=lambda value: value.split("/")[0] if isinstance(value, str) else "",
)
def test_a_page_tells(pages: dict[str, bytes], path: str, words: list[str]) -> None:
    text = re.sub(r"\s+", " ", Seen(pages[path]).text)
    assert [word for word in words if word.lower() not in text.lower()] == []


def test_an_empty_registry_has_a_home(registry: Registry) -> None:
    found = made(registry)
    assert b"embreg register NAME FILE" in found["index.html"]
    assert not [path for path in found if path.startswith(("embeddings/", "versions/"))]


def test_a_page_that_is_not_there(own: Registry) -> None:
    with pytest.raises(NotFound, match="no page"):
        Site(own).page("versions/words-000000000000/1.html")


def test_what_is_gone_is_told_and_breaks_nothing(root: Path, own: Registry) -> None:
    for blob in (root / "blobs").rglob("*"):
        if blob.is_file():
            blob.chmod(0o644)
            blob.write_bytes(b"damaged")
    found = made(own)
    text = Seen(found[places.comparison_path("words@1", "words@2")]).text
    assert "embreg verify" in text
    assert "mean_cosine" in text


# -- keys ------------------------------------------------------------------------------------------------


def registers(registry: Registry) -> None:
    registry.register("words", table(9), message="new")


def moves(registry: Registry) -> None:
    registry.alias("words", "production", "words@3")


def moves_to_and_fro(registry: Registry) -> None:
    registry.alias("words", "production", "words@1")
    registry.alias("words", "production", "words@2")


def measures(registry: Registry) -> None:
    evaluate("words@3", registry=registry, suites=["anisotropy"])


def measures_the_other(registry: Registry) -> None:
    evaluate("words@1", registry=registry, suites=["hubness"])


def judges(registry: Registry) -> None:
    verdict(registry, "words@2", "words@1", passed=False)


def rebuilds(registry: Registry) -> None:
    registry.rebuild("words-flat")


def deletes(registry: Registry) -> None:
    registry.delete("words@3")


def adds_data(registry: Registry) -> None:
    registry.add_dataset("more", registry.root.parent / "more.tsv", "pairs")


def derives(registry: Registry) -> None:
    derive(registry, "words@1", "normalize", name="words/normal")


def protects(registry: Registry) -> None:
    registry.protect("words", "production")


def forgets(registry: Registry) -> None:
    registry.remove_dependent("search")


ACTIONS = [registers, moves, moves_to_and_fro, measures, measures_the_other, judges, rebuilds, deletes,
           adds_data, derives, protects, forgets]  # fmt: skip


@pytest.mark.parametrize("act", ACTIONS)
def test_a_page_with_the_same_key_is_the_same_page(
    own: Registry, root: Path, act: Callable[[Registry], None]
) -> None:
    (root.parent / "more.tsv").write_text("id1\tid2\t3\nid3\tid4\t1\n")
    before, keys = made(own), dict(Site(own, checks=[CHECK]).paths())
    act(own)
    after, new = made(own), Site(own, checks=[CHECK]).paths()
    kept = {path for path, key in new.items() if keys.get(path) == key}
    changed = {path for path in kept if before[path] != after[path]}
    assert not changed
    assert "versions/" + places.slug("other") + "/1.html" in kept  # what has nothing to do with it stays
    assert "log.html" not in kept


def test_only_what_a_new_version_touches_is_made_again(own: Registry) -> None:
    keys = Site(own).paths()
    registers(own)
    due = {path for path, key in Site(own).paths().items() if keys.get(path) != key}
    # The version that another was computed from, and that one, show that it is stale now.
    touched = {places.version_path("words@2"), places.version_path("words/centred@1"),
               places.embedding_path("words/centred"), places.version_path("words@3"),
               places.version_path("words@4"), places.embedding_path("words"),
               places.comparison_path("words@3", "words@4"),
               places.HOME, places.LINEAGE, places.LOG, "log/0.html", "assets/search-index.js"}  # fmt: skip
    metrics = {path for path in due if path.startswith("metrics/")}
    assert due - metrics - {places.DEPENDENTS} == touched


def test_how_the_site_was_asked_for_is_in_every_key(own: Registry) -> None:
    keys = Site(own).paths()
    for asked in ({"title": "T"}, {"checks": [CHECK]}, {"links": [("Ask", "/ask")]}):
        other = Site(own, **asked).paths()
        assert set(other) == set(keys)
        assert not set(other.items()) & set(keys.items())


def test_one_page_alone_is_what_it_is_among_all(own: Registry, pages: dict[str, bytes]) -> None:
    for path in (places.HOME, places.version_path("words@2"), places.comparison_path("words@1", "words@2")):
        ours = {p: c for p, c in made(own).items() if p == path}
        assert Site(own, checks=[CHECK]).page(path).content == ours[path]


def test_the_log_is_cut_into_pages_that_stay(own: Registry) -> None:
    newest = own.log(limit=1)[0]
    with own._home.database.write() as session:
        for i in range(2 * EVENTS):
            session.add(EventRow(at=newest.at, actor="a", action="x.y", subject=f"s{i}", embedding=None,
                                 detail={}, command=""))  # fmt: skip
    keys, found = Site(own).paths(), made(own)
    assert {path for path in keys if path.startswith("log/")} == {"log/0.html", "log/1.html", "log/2.html"}
    numbers = [len(re.findall(r"<tr><td", found[f"log/{i}.html"].decode())) for i in range(3)]
    assert numbers[0] == EVENTS - 1  # the first event has the number 1
    assert numbers[1] == EVENTS
    assert sum(numbers) == own.count_events()
    assert len(re.findall(r"<tr><td", found["log.html"].decode())) == EVENTS
    protects(own)
    later = Site(own).paths()
    assert [later[f"log/{i}.html"] == keys[f"log/{i}.html"] for i in range(3)] == [True, True, False]


def test_the_number_of_statements_does_not_grow_with_the_versions(tmp_path: Path) -> None:
    crowded = pytest.importorskip("embreg.bench.crowded")
    crowded.crowd(tmp_path, embeddings=2, versions=600, events=800)
    with connect(tmp_path) as registry:
        told: list[str] = []
        engine = registry._home.database._engine
        event.listen(engine, "before_cursor_execute", lambda *args: told.append(args[2]))
        assert len(Site(registry).paths()) > 1200
        assert len(told) <= 40
        told.clear()
        Site(registry).page(places.version_path("embedding-001@17"))
        assert len(told) <= 40


# -- the directory ---------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_a_second_run_writes_nothing(own: Registry, tmp_path: Path) -> None:
    first = write_site(Site(own), tmp_path / "site")
    assert (first.written, first.removed, first.unchanged) == (first.pages, 0, 0)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "site").rglob("*")}
    again = write_site(Site(own), tmp_path / "site")
    assert (again.pages, again.written, again.removed, again.unchanged) == (first.pages, 0, 0, first.pages)
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "site").rglob("*")}


def test_what_is_missing_or_cut_is_written_again(own: Registry, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(Site(own), site)
    whole = files(site)
    (site / "index.html").unlink()
    (site / "log.html").write_bytes(whole["log.html"][:100])
    shutil.rmtree(site / "versions")
    assert write_site(Site(own), site).written == 2 + 5
    assert files(site) == whole


def test_pages_that_are_no_longer_due_go_and_nothing_else(own: Registry, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(Site(own), site)
    (site / "CNAME").write_text("example.org")
    (site / "versions" / "mine.html").write_text("mine")
    own.delete("other@1")
    done = write_site(Site(own), site)
    assert done.removed == 2
    assert not (site / places.version_path("other@1")).parent.exists()
    assert (site / "CNAME").read_text() == "example.org"
    assert (site / "versions" / "mine.html").read_text() == "mine"
    assert set(files(site)) == {*Site(own).paths(), MANIFEST, "CNAME", "versions/mine.html"}


def test_a_directory_with_other_files_is_left_alone(own: Registry, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        write_site(Site(own), site)
    assert files(site) == {"thesis.txt": b"mine"}
    write_site(Site(own), site, force=True)
    assert (site / "thesis.txt").read_text() == "mine"
    assert write_site(Site(own), site).written == 0  # now it is ours


def test_a_file_is_no_directory(own: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        write_site(Site(own), tmp_path / "file")


@pytest.mark.parametrize("where", ["versions", f"versions/{places.slug('words')}", "assets"])
def test_a_link_out_of_the_directory_is_not_followed(own: Registry, tmp_path: Path, where: str) -> None:
    site, outside = tmp_path / "site", tmp_path / "outside"
    write_site(Site(own), site)
    outside.mkdir()
    (outside / "1.html").write_text("outside")
    shutil.rmtree(site / where)
    (site / where).symlink_to(outside, target_is_directory=True)
    with pytest.raises(StorageError, match="is a link or a file"):
        write_site(Site(own), site)
    assert files(outside) == {"1.html": b"outside"}


def test_a_link_in_the_place_of_a_page_is_replaced(own: Registry, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(Site(own), site)
    (tmp_path / "outside").write_text("outside")
    (site / "index.html").unlink()
    (site / "index.html").symlink_to(tmp_path / "outside")
    assert write_site(Site(own), site).written == 1
    assert not (site / "index.html").is_symlink()
    assert (tmp_path / "outside").read_text() == "outside"


def test_the_directory_itself_may_be_a_link(own: Registry, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "site").symlink_to(tmp_path / "real", target_is_directory=True)
    write_site(Site(own), tmp_path / "site")
    assert (tmp_path / "real" / "index.html").is_file()


def test_a_manifest_cannot_name_files_of_others(own: Registry, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(Site(own), site)
    victims = [tmp_path / "victim.html", site / "Mine.html", site / ".hidden.html"]
    for victim in victims:
        victim.write_text("mine")
    known = json.loads((site / MANIFEST).read_text())
    foreign = ("../victim.html", str(victims[0]), "Mine.html", ".hidden.html", "a/../x.html")
    known["pages"] |= {path: ["k", 4] for path in foreign}
    (site / MANIFEST).write_text(json.dumps(known))
    assert write_site(Site(own), site).removed == 0
    assert all(victim.read_text() == "mine" for victim in victims)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pages": 3}', '{"pages": {"a.html": 1}}', "\0\0"])
def test_a_damaged_manifest_costs_a_whole_writing(own: Registry, tmp_path: Path, text: str) -> None:
    site = tmp_path / "site"
    first = write_site(Site(own), site)
    whole = files(site)
    (site / MANIFEST).write_text(text)
    assert write_site(Site(own), site).written == first.pages
    assert files(site) == whole


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", [0, 1, 7, 20])
def test_a_run_that_is_killed_is_completed_by_the_next(
    own: Registry, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    count = iter(range(1000))
    real = os.rename

    def rename(*args: Any, **kwargs: Any) -> None:
        if next(count) == at:
            raise Killed
        real(*args, **kwargs)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(Killed):
        write_site(Site(own), site)
    monkeypatch.undo()
    left = set(files(site))
    done = write_site(Site(own), site)
    assert done.written == done.pages
    write_site(Site(own), tmp_path / "fresh")
    assert files(site) == files(tmp_path / "fresh")
    assert len(left) == max(0, at)


def test_pages_of_a_killed_run_that_are_no_longer_due_go(
    own: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, count, real = tmp_path / "site", iter(range(1000)), os.rename
    due = list(Site(own).paths())
    at = due.index(places.version_path("other@1")) + 2

    def rename(*args: Any, **kwargs: Any) -> None:
        if next(count) == at:
            raise Killed
        real(*args, **kwargs)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(Killed):
        write_site(Site(own), site)
    monkeypatch.undo()
    assert (site / places.version_path("other@1")).exists()
    own.delete("other@1")
    write_site(Site(own), site)
    assert set(files(site)) == {*Site(own).paths(), MANIFEST}


def test_a_version_that_goes_while_the_site_is_written_is_left_out(own: Registry, tmp_path: Path) -> None:
    site = Site(own)
    site.paths()
    own.delete("words@3")
    write_site(site, tmp_path / "site")
    assert not (tmp_path / "site" / places.version_path("words@3")).exists()
    write_site(Site(own), tmp_path / "site")
    write_site(Site(own), tmp_path / "fresh")
    assert files(tmp_path / "site") == files(tmp_path / "fresh")


def test_several_processes_make_the_same_pages(
    own: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_MANY", 1)
    check = Check(metric="anisotropy.mean_cosine", labels={"a": "b"}, max=0.4)
    asked: dict[str, Any] = {"title": EVIL, "checks": [CHECK, check], "links": [("Ask", "/ask")]}
    write_site(Site(own, **asked), tmp_path / "one")
    write_site(Site(own, **asked), tmp_path / "two", processes=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_what_fails_in_another_process_is_told(
    own: Registry, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_MANY", 1)
    site = Site(own)
    site.paths()
    (root / "embreg.db").rename(root / "gone.db")
    with pytest.raises(EmbregError, match="no registry"):
        write_site(site, tmp_path / "site", processes=2)


# -- names and drawings ----------------------------------------------------------------------------------


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_slug_is_a_file_name_anywhere_and_tells_names_apart(a: str, b: str) -> None:
    for name in (a, b):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", places.slug(name))
        assert len(places.slug(name)) <= 60
        assert places.slug(name) not in {"con", "nul", "prn", "aux", "com1"}
    assert (places.slug(a) == places.slug(b)) == (a == b)


@pytest.mark.parametrize("name", ["CON", "con", "a/b", "A/b", "x" * 128, "naïve", "名前", "a.", "a..b"])
def test_names_that_file_systems_confuse(name: str) -> None:
    others = ["CON", "con", "a/b", "A/b", "x" * 128, "naïve", "naive", "名前", "a.", "a..b"]
    assert [other for other in others if places.slug(other).casefold() == places.slug(name).casefold()] == [
        name
    ]
    assert ".." not in places.version_path(f"{name}@3")


def things(count: int) -> list[Thing]:
    return [Thing(id=str(i), label=f"thing {i}" * (1 + i % 5), kind="version") for i in range(count)]


@given(st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda e: e[0] < e[1]), max_size=30))
def test_a_drawing_runs_from_left_to_right_and_no_boxes_touch(edges: set[tuple[int, int]]) -> None:
    links = [Link(start=str(a), end=str(b), kind="made") for a, b in sorted(edges)]
    drawing = laid_out(things(12), links)
    boxes = {box.thing.id: box for box in drawing.boxes}
    assert len(boxes) == 12
    assert all(boxes[link.start].x + boxes[link.start].width < boxes[link.end].x for link in links)
    for one in drawing.boxes:
        assert one.x + one.width <= drawing.width
        assert one.y + HEIGHT <= drawing.height
        for other in drawing.boxes:
            if one is not other and one.x == other.x:
                assert abs(one.y - other.y) >= HEIGHT + DOWN - 1e-6


def test_a_ring_and_a_loose_end_end_too() -> None:
    ring = [Link(start="0", end="1", kind="a"), Link(start="1", end="0", kind="a"),
            Link(start="1", end="elsewhere", kind="a")]  # fmt: skip
    drawing = laid_out(things(2), ring)
    assert len(drawing.boxes) == 2
    assert len(drawing.links) == 2
    assert laid_out([], []).boxes == ()
