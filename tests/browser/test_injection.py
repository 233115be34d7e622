"""A registry whose every text means harm, on every page: nothing runs, nothing leaves, nothing hides."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from playwright.sync_api import Page

from ..conftest import Cli
from ..test_cli_ui import serving
from . import hostile
from .conftest import once
from .watched import narrow, shot

#: What a browser shows as nothing, or lets change the order of what it shows.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the registry, a report of it and its site."""
    return once(tmp_path_factory, "hostile", make)


def make(folder: Path) -> None:
    """Make the registry, and its pages by the commands, whose own words mean no better."""
    hostile.make(folder)
    cli = Cli(folder)
    odd = folder / "'\"><img src=x onerror=window.pwned=1>.npy"
    np.save(odd, np.eye(3, dtype=np.float32))
    cli("register", "odd", str(odd), "-m", hostile.TEXTS[0], "--model", hostile.TEXTS[13])
    cli("report", f"{hostile.NAME}@3", "--baseline", f"{hostile.NAME}@2", "-o", "report.html")
    cli("site", "public", "--title", hostile.TEXTS[1])


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where ``embreg ui`` serves it."""
    with serving(folder) as (_, at):
        yield at["url"]


def harmless(page: Page) -> None:
    """See that no text became anything but text."""
    if page.locator("figure[data-chart]").count():
        page.wait_for_selector("html[data-drawn]", state="attached")
    pwned, told, alive, addresses = page.evaluate(SEEN)
    assert pwned is None
    assert not HIDDEN.search(told), HIDDEN.findall(told)
    assert alive == []
    for address in addresses:
        assert re.match(r"(?!\w+:|//)|data:,$", address), address
    narrow(page)


#: What was run, what is to be read, elements that no page has, and what elements would load or lead to.
SEEN = """() => [
  window.pwned ?? null,
  document.body.innerText,
  [...document.querySelectorAll("img, iframe, object, embed, base, [onload], [onerror], [onfocus]")]
    .map((one) => one.outerHTML),
  [...document.querySelectorAll("[href], [src], [action]")]
    .flatMap((one) => ["href", "src", "action"].map((name) => one.getAttribute(name))).filter(Boolean),
]"""


def test_the_texts_are_there(folder: Path) -> None:
    """Else the other tests would show nothing."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;window.pwned=1&lt;/script&gt;" in page
    assert "{{7*7}}" in page
    with closing(sqlite3.connect(folder / ".embreg" / "embreg.db")) as database:
        kept = "".join(message for (message,) in database.execute("SELECT message FROM versions"))
    assert [text for text in hostile.TEXTS if text not in kept] == []


def test_a_report(page: Page, folder: Path) -> None:
    page.goto((folder / "report.html").as_uri())
    harmless(page)
    shot(page, "hostile-report")


def test_every_page_of_the_site(page: Page, folder: Path) -> None:
    pages = sorted((folder / "public").rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        page.goto(path.as_uri())
        harmless(page)


def test_what_is_searched_for(page: Page, folder: Path) -> None:
    for text in hostile.TEXTS:
        page.goto((folder / "public" / "search.html").as_uri() + f"?q={quote(text)}")
        page.wait_for_function("document.getElementById('told').textContent")
        harmless(page)
    page.goto((folder / "public" / "search.html").as_uri() + "?q=script")
    page.locator("#found a").first.wait_for()
    harmless(page)
    shot(page, "hostile-search")


def test_neighbours_and_analogies(page: Page, address: str) -> None:
    for text in hostile.TEXTS[:-1]:
        page.goto(f"{address}-/neighbors?" + urlencode({"ref": hostile.NAME, "id": text, "k": 100}))
        assert page.locator("td a").count() == 100
        harmless(page)
    shot(page, "hostile-neighbours")
    for a, b, c in zip(*(hostile.TEXTS[i:-1:3] for i in range(3)), strict=True):
        page.goto(f"{address}-/analogy?" + urlencode({"ref": hostile.NAME, "a": a, "b": b, "c": c}))
        assert page.locator("td a").count() == 10
        harmless(page)
    shot(page, "hostile-analogy")


def test_an_id_is_found_again_by_its_link(page: Page, address: str) -> None:
    page.goto(f"{address}-/neighbors?ref={quote(hostile.NAME)}&id=1&k=100")
    links = [str(one.get_attribute("href")) for one in page.locator("td a").all()]
    odd = [link for link in links if "%" in link.partition("&id=")[2]][:12]
    assert len(odd) == 12
    for link in odd:
        page.goto(address.rstrip("/") + link)
        assert page.locator("td a").count() == 100


def test_what_is_suggested(page: Page, address: str) -> None:
    page.goto(f"{address}-/neighbors?ref={quote(hostile.NAME)}")
    for typed in ("<", '"', "javascript:", "{"):
        page.get_by_label("Id", exact=True).fill(typed)
        page.locator("#ids-id option").first.wait_for(state="attached")
        page.wait_for_function(SUGGESTED, arg=typed)
        harmless(page)


SUGGESTED = """typed => { const all = [...document.querySelectorAll("#ids-id option")];
                          return all.length > 0 && all.every(one => one.value.startsWith(typed)); }"""
