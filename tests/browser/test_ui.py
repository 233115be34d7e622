"""``embreg ui`` in a browser: the pages of the site, neighbours, analogies; with a script and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from .watched import Watch, accessible, drawn, narrow, shot

PAGES = {
    "home": "",
    "neighbours": "-/neighbors",
    "neighbours of one": "-/neighbors?ref=words@2&id=land007",
    "neighbours in two": "-/neighbors?ref=words@2&id=land007&beside=words@4&metric=l2&k=25",
    "analogies": "-/analogy?ref=words@3&a=land001&b=city001&c=land002",
    "log": "log.html",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(page: Page, ui: str, name: str) -> None:
    page.goto(ui + PAGES[name])
    narrow(page)
    accessible(page)
    shot(page, f"ui-{name.replace(' ', '-')}")
    page.set_viewport_size({"width": 390, "height": 800})
    narrow(page)


def test_pictures_are_drawn_here_too(page: Page, ui: str) -> None:
    page.goto(ui)
    page.get_by_role("table").get_by_role("link", name="words", exact=True).click()
    assert drawn(page) > 0


def test_from_the_home_page_to_the_neighbours_of_a_neighbour(page: Page, ui: str) -> None:
    page.goto(ui)
    page.get_by_role("link", name="Neighbours").click()
    page.get_by_label("Version", exact=True).select_option("words@2")
    page.get_by_label("Id", exact=True).fill("land007")
    page.get_by_label("Beside").select_option("words@4")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("h1")).to_contain_text("land007")
    assert page.locator("section").count() == 2
    first = page.locator("section").first.locator("td a").first
    name = first.inner_text()
    first.click()
    expect(page.locator("h1")).to_contain_text(name)
    expect(page.get_by_label("Beside")).to_have_value("words@4")


def test_ids_are_suggested_while_one_types(page: Page, ui: str) -> None:
    page.goto(ui + "-/analogy?ref=words@2")
    page.get_by_label("is to B").press_sequentially("city01")
    expect(page.locator("#ids-b option").first).to_have_attribute("value", "city010")
    assert page.locator("#ids-b option").count() == 10
    assert page.locator("#ids-a option").count() == 0


def test_an_analogy_is_answered(page: Page, ui: str) -> None:
    page.goto(ui)
    page.get_by_role("link", name="Analogies").click()
    page.get_by_label("Version", exact=True).select_option("words@2")
    for label, item in (("A", "land001"), ("is to B", "city001"), ("as C is to ?", "land002")):
        page.get_by_label(label, exact=True).fill(item)
    page.get_by_label("as C is to ?").press("Enter")
    expect(page.locator("td a").first).to_have_text("city002")


def test_it_works_without_javascript(chromium: Browser, registry_story: object, ui: str) -> None:
    watch = Watch(files=registry_story.folder)  # type: ignore[attr-defined]
    context = chromium.new_context(java_script_enabled=False)
    watch.over(context)
    page = context.new_page()
    page.goto(ui + "-/neighbors")
    page.get_by_label("Version", exact=True).select_option("words@1")
    page.get_by_label("Id", exact=True).fill("city001")
    page.get_by_role("button", name="Find").click()
    assert page.locator("td a").count() == 10
    context.close()
    assert not watch.faults


def test_with_a_token_a_link_from_anywhere_lets_one_in(
    page: Page, registry_story: object, tmp_path: object
) -> None:
    from ..test_cli_ui import serving

    with serving(registry_story.folder, "--token", "open-sesame") as (_, address):  # type: ignore[attr-defined]
        page.goto(f"{address['url']}")
        page.wait_for_url(address["url"].partition("?")[0])
        expect(page.locator("h1")).to_contain_text("mbeddings")
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("link", name="Neighbours").click()
        expect(page.locator("h1")).to_have_text("Neighbours")
        page.wait_for_load_state("networkidle")
