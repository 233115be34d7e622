"""Names and ids that would climb out of a folder, talk to a terminal, run as SQL or as HTML.

They are refused, or stored as they are and shown harmlessly by every command and on every page.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from embreg import connect
from embreg.cli import main

HOSTILE = {
    "climb": "../../../../tmp/owned",
    "absolute": "/etc/passwd",
    "nul": "nul\0byte",
    "newline": "two\nlines\r\nand \u2028more\u0085",
    "ansi": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "direction": "\u202egpj.exe\u2066x\u2069\u200f",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "long": "lo" + "o" * 10_240 + "ng",
    "sql": "'); DROP TABLE versions; --",
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;",
    "markup": "[bold red]x[/bold red][link=https://x.example]y[/link]",
    "formula": "=HYPERLINK(\"x\")|' /C calc'!A0",
    "option": "--json",
    "percent": "%s%n{0}{evil}$HOME`id`",
    "dots": "..",
    "empty": "",
    "blank": " ",
}
ROWS = 40


class Page(HTMLParser):
    """Collects the tags and attributes of a page: what the hostile texts must not add to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


class Place:
    """Runs commands in this process, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, codes: tuple[int, ...] = (0,)) -> tuple[int, str]:
        env = {"EMBREG_REGISTRY": None, "GITHUB_STEP_SUMMARY": None}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=env).invoke(main, [*words])
        told = done.stdout + done.stderr
        assert done.exit_code in codes, (words, done.exit_code, told[-2000:])
        assert "internal error" not in told, told
        assert all(line.isprintable() for line in told.split("\n")), ascii(told)
        if "--json" in words[: words.index("--") if "--" in words else None]:
            json.loads(done.stdout)
        return done.exit_code, done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("outer") / "inner"
    folder.mkdir()
    at = Place(folder)
    x = np.random.default_rng(0).standard_normal((ROWS, 8)).astype(np.float32)
    nasty = [text for text in HOSTILE.values() if text]
    ids = [*nasty, *(f"id{i}" for i in range(ROWS - len(nasty)))]
    extra = pa.array([nasty[i % len(nasty)] for i in range(ROWS)])
    pq.write_table(pa.table({"id": ids, "v": list(x), nasty[0]: extra}), folder / "a.parquet")
    pq.write_table(pa.table({"id": ids[5:], "v": list(x[5:] + 1), nasty[0]: extra[5:]}), folder / "b.parquet")
    plain = str.maketrans({"\0": None, "\n": " ", "\r": None})
    words = [text.translate(plain) for text in nasty if text.strip()]
    questions = "".join(f": {word}\nid1 id2 id3 id4\nid5 id6 id7 id8\n" for word in words)
    (folder / "analogies.txt").write_text(questions)
    (folder / "pairs.tsv").write_text("".join(f"id{i}\tid{i + 1}\t{i % 5}\n" for i in range(20)))
    (folder / "labels.tsv").write_text("".join(f"id{i}\tl{words[i % len(words)]}\n" for i in range(20)))
    at("init")
    for i, source in enumerate(("a.parquet", "b.parquet")):
        options = ["-m", "\n".join(t for t in nasty if "\0" not in t), "--model", nasty[i + 4]]
        for text in nasty:
            if "\0" not in text and "=" not in text:
                options += ["--tag", f"{text}={text}"]
        at("register", "words", source, *options)
    at("index", "build", "flat", "words@1", "--factory", "Flat")
    for name, kind in (("analogies.txt", "analogies"), ("pairs.tsv", "pairs"), ("labels.tsv", "labels")):
        at("dataset", "add", kind, name, "--kind", kind)
    (folder / "embreg.toml").write_text(
        '[[gates]]\nmetric = "analogies.accuracy"\nmin = 0.9\nseverity = "critical"\n'
        '[[gates]]\nmetric = "hubness.skewness"\nmax = -9\n'
    )
    return at


SHOWN = [
    ("list",),
    ("list", "words"),
    ("show", "words"),
    ("log",),
    ("alias", "history", "words"),
    ("index", "list"),
    ("index", "status"),
    ("dataset", "list"),
    ("diff", "words@1", "words@2"),
    ("neighbors", "words", "id0", "-k", "39"),
    ("analogy", "words@1", "id0", "id1", "id2", "-k", "36"),
    ("index", "search", "flat", "id0", "-k", "39"),
    ("metrics", "words"),
    ("du",),
    ("verify",),
]


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_no_command_says_more_than_text(place: Place, words: tuple[str, ...], more: tuple[str, ...]) -> None:
    code = (0,) if "-k" not in words else (0, 3)  # fewer rows may be left
    place(*words, *more, codes=code)


@pytest.mark.parametrize("name", [n for n in HOSTILE if n not in ("nul", "empty")])
def test_a_hostile_id_is_looked_up_as_it_is(place: Place, name: str) -> None:
    _, out = place("neighbors", "words@1", "-k", "3", "--json", "--", HOSTILE[name])
    assert json.loads(out)["id"] == HOSTILE[name]
    place("index", "search", "flat", "-k", "3", "--", HOSTILE[name])


def test_ids_come_back_as_they_went_in(place: Place) -> None:
    with connect(place.folder / ".embreg") as registry:
        ids = registry.table("words@1").ids.to_pylist()
        assert ids[: len(HOSTILE) - 1] == [text for text in HOSTILE.values() if text]


@pytest.mark.parametrize("suffix", [".txt", ".parquet", ".npy", ".arrow", ".vec", ".bin", ".npz"])
def test_an_export_holds_them_or_refuses(place: Place, suffix: str) -> None:
    """A text format that cannot hold a line end in a word says so; the others give every id back."""
    code, _ = place("export", "words@1", f"out{suffix}", "--overwrite", codes=(0, 3))
    if code:
        assert suffix in (".txt", ".vec", ".bin")
        assert not (place.folder / f"out{suffix}").exists()
        return
    place("register", "again", f"out{suffix}")
    with connect(place.folder / ".embreg") as registry:
        assert registry.table("again").ids.to_pylist() == registry.table("words@1").ids.to_pylist()


def test_tables_and_pages_of_an_evaluation_are_text(place: Place) -> None:
    place("eval", "words@1", codes=(0, 3))
    place("eval", "words@2", "--baseline", "words@1", "--json", codes=(0, 3))
    place("drift", "words@1", "words@2", codes=(0, 3))
    pages = ("--html", "gate.html", "--junit", "gate.xml", "--markdown", "gate.md")
    place("gate", "words@2", "--baseline", "words@1", *pages, codes=(1,))
    page = Page((place.folder / "gate.html").read_text())
    assert page.handlers == []
    assert "img" not in page.tags
    assert "alert(1)</script>" not in (place.folder / "gate.html").read_text()
    ElementTree.fromstring((place.folder / "gate.xml").read_text())
    markdown = (place.folder / "gate.md").read_text()
    assert "<script" not in markdown and "<img" not in markdown
    for name in ("gate.html", "gate.md", "gate.xml"):
        text = (place.folder / name).read_text()
        assert all(line.isprintable() for line in text.replace("\t", " ").split("\n")), name


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_name_becomes_a_name(place: Place, name: str) -> None:
    bad = HOSTILE[name]
    if "\0" in bad:
        pytest.skip("no argument of a process holds NUL")
    before = everything(place.folder)
    for words in (
        ("register", "--", bad, "a.parquet"),
        ("alias", "set", "--", "words", bad, "words@1"),
        ("alias", "rm", "--", "words", bad),
        ("index", "build", "--factory", "Flat", "--", bad, "words"),
        ("dataset", "add", "--kind", "pairs", "--", bad, "pairs.tsv"),
        ("show", "--", bad),
        ("show", "--", f"words@{bad}"),
        ("list", "--", bad),
        ("log", "--", bad),
        ("delete", "--", bad),
        ("promote", "--", "words@1", bad),
        ("index", "search", "--", bad, "id1"),
        ("metrics", "--", bad),
    ):
        if words[:1] == ("show",) and words[-1] == "words@":
            continue
        place(*words, codes=(2, 3))
        place(words[0], "--json", *words[1:], codes=(2, 3)) if words[0] in ("show", "list", "log") else None
    assert everything(place.folder) == before


def everything(folder: Path) -> set[Path]:
    """Every file below the folder above: what climbs out would be seen. SQLite's own come and go."""
    found = {path for path in folder.parent.rglob("*") if not path.name.startswith("embreg.db-")}
    assert not Path("/tmp/owned").exists()
    return found


def test_the_database_took_them_for_text(place: Place) -> None:
    with closing(sqlite3.connect(place.folder / ".embreg" / "embreg.db")) as plain:
        assert plain.execute("SELECT count(*) FROM versions").fetchone()[0] >= 2
        (message,) = plain.execute("SELECT message FROM versions WHERE id = 1").fetchone()
    assert "DROP TABLE" in message
