"""The site in a browser, from a disk: every page is whole, and what people come for is found by clicks."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from .watched import accessible, drawn, narrow, shot

PAGES = {
    "home": "index.html",
    "embedding": "embeddings/words-*.html",
    "metrics": "metrics/words-*/drift-*.html",
    "version": "versions/words-*/4.html",
    "first version": "versions/words-*/1.html",
    "derived version": "versions/words-centred-*/1.html",
    "comparison": "comparisons/words-*/4-against-3.html",
    "dependents": "dependents.html",
    "lineage": "lineage.html",
    "datasets": "datasets.html",
    "log": "log.html",
    "search": "search.html",
}

#: Pages that have pictures.
PICTURED = ("embedding", "metrics", "version", "first version", "comparison")


def at(site: Path, pattern: str) -> str:
    """The address of the only file, or the shortest, that is called so."""
    found = sorted(site.glob(pattern), key=lambda path: (len(str(path)), path))
    assert found, f"no {pattern} among {sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html'))}"
    return found[0].as_uri()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(page: Page, site: Path, name: str) -> None:
    page.goto(at(site, PAGES[name]))
    kept = f"site-{name.replace(' ', '-')}"
    if name in PICTURED:
        assert drawn(page, kept) > 0
    else:
        shot(page, kept)
    expect(page.locator("h1")).to_have_count(1)
    narrow(page)
    accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    narrow(page)


def test_the_comparison_is_reached_by_clicks_from_the_home_page(page: Page, site: Path) -> None:
    page.goto(at(site, "index.html"))
    page.get_by_role("table").get_by_role("link", name="words", exact=True).click()
    page.locator("tr", has_text="another epoch").get_by_role("link", name="with").click()
    expect(page.locator("h1")).to_have_text("words@3 against words@2")
    assert drawn(page) > 0
    page.get_by_role("link", name="words@2").first.click()
    expect(page.locator("h1")).to_contain_text("words@2")


def test_every_link_leads_somewhere(chromium: Browser, site: Path) -> None:
    """From the home page on, whatever can be clicked; anchors too. Without scripts, which nothing needs."""
    start = at(site, "index.html")
    seen, wanted = set(), {start}
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        while left := wanted - seen:
            address = left.pop()
            seen.add(address)
            page.goto(address)
            for link in set(page.eval_on_selector_all("a[href], form[action]", HREFS)):
                path, anchor = local(link)
                assert path.is_relative_to(site), f"{address}: {link}"
                assert path.is_file(), f"{address}: {link}"
                assert not anchor or f'id="{anchor}"' in path.read_text("utf-8"), f"{address}: {link}"
                wanted.add(path.as_uri())
    pages = {path.as_uri() for path in site.rglob("*.html")}
    assert seen == pages, f"nothing leads to {pages - seen}"


#: Where elements lead, as whole addresses; those of a picture's links are no texts.
HREFS = """all => all.map(one => one.getAttribute("href") ?? one.getAttribute("action"))
                 .map(address => new URL(address, document.baseURI).href)"""


def local(address: str) -> tuple[Path, str]:
    """The file and the anchor that an address names."""
    parts = urlsplit(address)
    assert parts.scheme == "file", address
    return Path(unquote(parts.path)), unquote(parts.fragment)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("words@3", "words@3"), ("production", "words"), ("nightly", "words@4"), ("toy-2 docs", "docs@1"),
     ("search-service", "search-service"), ("questions", "questions")],
)  # fmt: skip
def test_search_finds(page: Page, site: Path, typed: str, name: str) -> None:
    page.goto(at(site, "index.html"))
    page.keyboard.press("/")
    page.keyboard.type(typed)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("found")
    found = page.locator("#found").get_by_role("link", name=name, exact=True).first
    found.click()
    assert "search.html" not in page.url
    expect(page.locator("main")).to_contain_text(name)


def test_search_that_finds_nothing_says_so(page: Page, site: Path) -> None:
    page.goto(at(site, "search.html") + "?q=no-such-thing")
    expect(page.get_by_role("status")).to_have_text("Nothing found.")
