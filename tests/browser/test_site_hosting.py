"""The site where it may stand: on a file server, in a browser that runs no script, made of hostile names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from embreg import EmbeddingTable, connect
from embreg.evals.site.site import Site
from embreg.evals.site.writing import write_site

from .watched import Watch, accessible, drawn

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'javascript:alert(3)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The address of a plain file server that hosts the site in a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{site.name}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_any_file_server_will_do(page: Page, served: str) -> None:
    page.goto(f"{served}index.html")
    page.get_by_role("table").get_by_role("link", name="words@4", exact=True).click()
    assert drawn(page) > 0
    page.keyboard.press("/")
    page.keyboard.type("another epoch")
    page.keyboard.press("Enter")
    page.locator("#found").get_by_role("link", name="words@3", exact=True).click()
    expect(page.locator("h1")).to_contain_text("words@3")
    page.wait_for_load_state("networkidle")  # the server ends with the test


def test_search_goes_on_by_keyboard(page: Page, site: Path) -> None:
    page.goto((site / "search.html").as_uri())
    page.keyboard.type("words")
    expect(page.locator("#found li").nth(2)).to_be_visible()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#found a").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#find")).to_be_focused()
    assert page.url.endswith("?q=words")


def test_a_browser_without_scripts_sees_all_but_pictures(chromium: Browser, site: Path) -> None:
    watch = Watch(files=site.parent)
    context = chromium.new_context(java_script_enabled=False)
    watch.over(context)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.get_by_role("table").get_by_role("link", name="words@4", exact=True).click()
    expect(page.locator(".banner")).to_contain_text("Do not ship")
    page.locator("figure summary").first.click()
    expect(page.locator("figure table").first).to_be_visible()
    page.goto((site / "search.html").as_uri())
    # Chromium keeps what is in it hidden where a test has put scripts out.
    assert "Search needs JavaScript" in (page.locator("noscript").text_content() or "")
    context.close()
    assert not watch.faults


def test_hostile_words_stay_words(page: Page, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    table = EmbeddingTable.from_arrays([f"{EVIL}{i}" for i in range(30)], x)
    with connect(tmp_path / "registry", create=True) as registry:
        registry.register("words", table, message=EVIL, model=EVIL, tags={EVIL: EVIL}, alias="live")
        registry.add_dependent("outside", "words@live", note=EVIL, command=EVIL)
        write_site(Site(registry, title=EVIL), tmp_path / "site")
    folder = tmp_path / "site"
    for path in sorted(folder.rglob("*.html")):
        page.goto(path.as_uri())
        assert page.locator("img, main script:not([type])").count() == 0, path
    page.goto((folder / "search.html").as_uri() + "?q=onerror")
    expect(page.get_by_role("status")).to_contain_text("found")
    expect(page.locator("#found")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("#found img").count() == 0
    accessible(page)
