"""What every page must do without: errors, dialogs, anything from elsewhere; and what tests ask of a page."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Route

ROOT = Path(__file__).parents[2]
#: Violations of these weights are defects: of WCAG 2, levels A and AA, so that nothing is a matter of taste.
SERIOUS = ("serious", "critical")
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
#: What the dark may change.
CONTRAST = {"type": "rule", "values": ["color-contrast"]}


@dataclass(kw_only=True)  # without slots: Playwright keeps its own notes on the owner of a handler
class Watch:
    """Notes what pages of a context do that no page of embreg may do.

    Attributes:
        files: the folder whose files may be opened.
        origin: the address that may be asked, once a page was opened from one.
        faults: what was seen.
    """

    files: Path
    origin: str = ""
    faults: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Watch every page that the context opens; requests to elsewhere are stopped."""
        context.on("page", self._page)
        context.on("request", self._request)
        context.route("**/*", self._route)

    def _page(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("websocket", lambda socket: self.faults.append(f"socket: {socket.url}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console {message.type}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if (
            not self.origin
            and request.is_navigation_request()
            and request.url.startswith("http://127.0.0.1:")
        ):
            self.origin = _origin(request.url)
        if not self._own(request.url):
            self.faults.append(f"request: {request.url[:200]}")

    def _own(self, url: str) -> bool:
        if url.startswith(("data:", "blob:", "about:")):
            return True
        return url.startswith(f"{self.files.as_uri()}/") or (
            bool(self.origin) and _origin(url) == self.origin
        )

    def _route(self, route: Route) -> None:
        if self._own(route.request.url):
            route.continue_()
        else:
            route.abort()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def drawn(page: Page, name: str = "") -> int:
    """Wait until the pictures of a page are drawn, see that none is blank, and return how many there are.

    With a name the page is kept as ``shot`` does.
    """
    page.wait_for_selector("html[data-drawn]", state="attached")
    png = shot(page, name).read_bytes() if name else page.screenshot(full_page=True)
    whole = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    places = page.evaluate(_PLACES)
    for what, done, x, y, width, height in places:
        assert done, f"not drawn: {what}"
        if width and height:
            assert _share_of_ink(whole[y : y + height, x : x + width]) > 0.002, f"blank: {what}"
    return len(places)


#: Of each picture what it shows, whether it says it is drawn, and where on the page it is.
_PLACES = """() => [...document.querySelectorAll(".chart")].map((place) => {
  const box = place.getBoundingClientRect();
  const at = [box.x + scrollX, box.y + scrollY, box.width, box.height].map(Math.round);
  return [place.getAttribute("aria-label") ?? "a picture", "drawn" in place.dataset, ...at];
})"""


def _share_of_ink(pixels: np.ndarray) -> float:
    """The share of pixels that differ from the commonest one."""
    colours = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    _, counts = np.unique(colours, return_counts=True)
    return 1 - float(counts.max() / counts.sum())


def accessible(page: Page) -> None:
    """See that axe finds nothing serious on a page, neither in light nor in dark."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(_THIN)
    for scheme, rules in (("light", RULES), ("dark", CONTRAST)):
        page.emulate_media(color_scheme=scheme)
        options = {"runOnly": rules, "resultTypes": ["violations"], "preload": False}
        found = Axe().run(page, options=options).response["violations"]
        told = [
            f"{scheme}: {v['id']} ({v['impact']}): {v['help']}: "
            + "; ".join(f"{node['target']} {node['failureSummary']}" for node in v["nodes"][:3])
            for v in found
            if v["impact"] in SERIOUS
        ]
        assert not told, "\n".join(told)
    page.emulate_media(color_scheme="light")
    page.evaluate(_WHOLE)


#: Axe takes its time for every element: what is closed, what is inside of a picture, and rows like those
#: above them are taken out before, and put back.
_THIN = """() => {
  const many = "details:not([open]) > :not(summary), .chart svg > *, tbody tr:nth-child(n+9)";
  window.taken = [...document.querySelectorAll(many)].map((one) => [one, document.createComment("")]);
  window.taken.forEach(([one, place]) => one.replaceWith(place));
}"""
_WHOLE = "() => window.taken.forEach(([one, place]) => place.replaceWith(one))"


def narrow(page: Page) -> None:
    """See that a page is no wider than its window."""
    width, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= window, f"{width} pixels wide in a window of {window}"


def shot(page: Page, name: str) -> Path:
    """Keep a picture of the whole page: below $EMBREG_SCREENSHOTS, or build/screenshots."""
    folder = Path(os.environ.get("EMBREG_SCREENSHOTS") or ROOT / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
