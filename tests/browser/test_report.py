"""The page of a report in a browser: it draws, is read without a mouse, and nothing hostile comes alive."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from embreg import EmbeddingTable, connect, evaluate
from embreg.evals.config import load_config
from embreg.evals.report import files
from embreg.evals.reporting import report
from embreg.evals.runner import discover
from embreg.evals.saving import save

from .story import Story
from .watched import accessible, drawn, narrow, shot

HOSTILE = [
    "<script>window.hacked=1;alert(1)</script>",
    "\"><img src=x onerror=\"window.hacked=1\">",
    "</script><script>window.hacked=1</script>",
    "<!--<script>",
    "javascript:window.hacked=1",
    "{{7*7}}'\"`",
    "\x1b[31mred",
    "\u202eevil",
    "datum.x); window.hacked=1; (",
    "x" * 10_000,
]  # fmt: skip


def write(folder: Path, root: Path, ref: str, **asked: object) -> str:
    """Write a report; return its address."""
    config = root.parent / "embreg.toml"
    with connect(root) as registry:
        loaded = load_config(config) if config.exists() else None
        found = report(registry, ref, config=loaded, **asked)  # type: ignore[arg-type]
    path = folder / "report.html"
    save(path, files.rendered(found, discover()).text.encode())
    return path.as_uri()


@pytest.fixture(scope="module")
def addresses(registry_story: Story, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the reports of some versions are."""
    refs = ("words@4", "docs@1")
    return {ref: write(tmp_path_factory.mktemp("report"), registry_story.registry, ref) for ref in refs}


def text_at(address: str) -> str:
    """What a page was written as."""
    return Path(address.removeprefix("file://")).read_text(encoding="utf-8")


@pytest.mark.parametrize("ref", ["words@4", "docs@1"])
def test_reports_of_the_story(page: Page, addresses: dict[str, str], ref: str) -> None:
    page.goto(addresses[ref])
    pictures = drawn(page)
    assert pictures >= (2 if ref == "docs@1" else 6)
    accessible(page)
    narrow(page)
    page.set_viewport_size({"width": 400, "height": 800})
    narrow(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    shot(page, f"report-{ref.replace('@', '-')}")


def test_the_first_screen_answers(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["words@4"])
    expect(page.locator(".banner")).to_be_in_viewport()
    expect(page.locator(".banner .answer")).to_contain_text("Do not ship")
    expect(page.get_by_text("analogies.accuracy").first).to_be_in_viewport()


def test_by_keyboard(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["words@4"])
    drawn(page)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the verdict")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.locator("nav a").first.focus()
    names = page.locator("nav a").all_inner_texts()
    for name in names[:4]:
        expect(page.locator(":focus")).to_have_text(name)
        page.keyboard.press("Tab")
    first = page.locator("details summary").first
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None


def test_on_paper_and_at_rest(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["words@4"])
    drawn(page)
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 720, "height": 1000})
    narrow(page)
    assert page.locator("nav").is_hidden()
    assert page.locator("figure details").first.is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts(chromium: Browser, addresses: dict[str, str]) -> None:
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(addresses["words@4"])
    expect(opened.locator("noscript .lack")).to_contain_text("scripts are off")
    expect(opened.locator(".banner .answer")).to_contain_text("Do not ship")
    figures = opened.locator("figure").all()
    assert figures
    for figure in figures:
        figure.locator("summary").click()
        assert figure.locator("tbody tr").count() > 0
    context.close()


def hostile(folder: Path) -> Path:
    """A registry whose every text is a trap; datasets and labels too."""
    root = folder / "registry"
    rng = np.random.default_rng(0)
    ids = [*HOSTILE, *(f"w{i}" for i in range(90))]
    x = rng.standard_normal((len(ids), 6)).astype(np.float32)
    labels = [f"<b onclick=alert(1)>{i % 3}</b>" for i in range(len(ids))]
    (folder / "labels.tsv").write_text(
        "id\tlabel\n" + "".join(f"w{i}\t{labels[i]}\n" for i in range(90)), encoding="utf-8"
    )
    with connect(root, create=True) as registry:
        registry.add_dataset("labels", folder / "labels.tsv", "labels", source=HOSTILE[0])
        for noise in (0.0, 0.7):
            y = x + noise * rng.standard_normal(x.shape).astype(np.float32)
            table = EmbeddingTable.from_arrays(ids, y)
            registry.register("words", table, model=HOSTILE[0], message=HOSTILE[1], pooling=HOSTILE[2])
        registry.add_dependent("service", "words@latest", note=HOSTILE[2])
        for ref, base in (("words@1", None), ("words@2", "words@1")):
            evaluate(ref, baseline=base, registry=registry)
    return root


def test_nothing_hostile_comes_alive(page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    address = write(folder, hostile(folder), "words@2")
    page.goto(address)
    assert drawn(page) > 5
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, b[onclick], iframe, object, embed").count() == 0
    narrow(page)
    page.set_viewport_size({"width": 400, "height": 800})
    narrow(page)
    texts = page.locator("body").inner_text()
    assert "<script>window.hacked=1" in texts
    assert "\u202e" not in texts
    assert "\x1b" not in texts
    for point in page.locator(".chart svg path[aria-label], .chart svg .mark-symbol path").all()[:5]:
        point.hover(force=True)
    assert page.evaluate("window.hacked") is None


def test_a_script_that_is_not_the_page_s_own_is_stopped(
    chromium: Browser, addresses: dict[str, str], tmp_path: Path
) -> None:
    before, end, after = text_at(addresses["docs@1"]).rpartition("</body>")
    planted = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    path = tmp_path / "planted.html"
    path.write_text(before + planted + end + after, encoding="utf-8")
    context = chromium.new_context()
    opened = context.new_page()
    opened.goto(path.as_uri())
    drawn(opened)
    assert opened.evaluate("window.hacked") is None
    context.close()


class Count(HTMLParser):
    """Counts the elements of a page as they are written."""

    tags = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags += 1


def test_the_browser_reads_the_page_as_it_was_written(page: Page, addresses: dict[str, str]) -> None:
    """A tag that is not closed, or closed where it may not, would make the browser add or move elements."""
    text = text_at(addresses["words@4"])
    count = Count()
    count.feed(text)
    parsed = "text => new DOMParser().parseFromString(text, 'text/html').querySelectorAll('*').length"
    assert page.evaluate(parsed, text) == count.tags
