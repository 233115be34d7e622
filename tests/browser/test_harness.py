"""The harness itself: a page that does what no page may do is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from .watched import Watch, accessible, drawn, narrow

HEAD = "<!DOCTYPE html><html lang=en data-drawn><title>t</title>"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>console.error('oh')</script>", "console error: oh"),
        ("<script>console.warn('hm')</script>", "console warning: hm"),
        ("<script>throw new Error('thrown')</script>", "error: thrown"),
        ("<script>alert(1)</script>", "dialog: 1"),
        ("<img src='http://127.0.0.1:9/x.png' alt=''>", "request: http://127.0.0.1:9/x.png"),
        ("<link rel=stylesheet href='https://example.org/a.css'>", "request: https://example.org/a.css"),
        ("<script>fetch('http://localhost:9/').catch(() => 0)</script>", "request: http://localhost:9/"),
        ("<iframe src='file:///etc/hostname' title=x></iframe>", "request: file:///etc/hostname"),
        ("<script>new WebSocket('ws://127.0.0.1:9/')</script>", "socket: ws://127.0.0.1:9/"),
    ],
    ids=["error", "warning", "thrown", "dialog", "image", "style", "fetch", "file", "socket"],
)
def test_what_no_page_may_do_is_noticed(chromium: Browser, tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "page.html").write_text(HEAD + body, encoding="utf-8")
    watch = Watch(files=tmp_path)
    context = chromium.new_context()
    watch.over(context)
    opened = context.new_page()
    opened.goto((tmp_path / "page.html").as_uri())
    opened.wait_for_timeout(100)
    context.close()
    assert any(seen.startswith(fault) for seen in watch.faults), watch.faults


def test_a_quiet_page_is_left_alone(page: Page, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(HEAD + "<h1>quiet</h1><script src=a.js></script>", encoding="utf-8")
    (tmp_path / "a.js").write_text("console.log('fine')", encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    assert page.inner_text("h1") == "quiet"


@pytest.mark.parametrize(
    ("check", "body", "told"),
    [
        (drawn, "<div class=chart data-drawn style='height:50px'></div>", "blank"),
        (drawn, "<div class=chart>cannot</div>", "not drawn"),
        (accessible, "<img src='data:,'>", "image-alt"),
        (accessible, "<p style='color:#ccc'>pale</p>", "color-contrast"),
        (narrow, "<div style='width:3000px'>wide</div>", "pixels wide"),
    ],
    ids=["blank", "not drawn", "image", "contrast", "wide"],
)
def test_a_check_that_fails_fails(page: Page, tmp_path: Path, check: object, body: str, told: str) -> None:
    (tmp_path / "page.html").write_text(HEAD + f"<main><h1>t</h1>{body}</main>", encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    with pytest.raises(AssertionError, match=told):
        check(page)
