"""Pictures for the README from the demo: the report's verdict, and an embedding over its versions.

Run by ``make screenshots``. The same window, colours and fonts every time, and no clock in view.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
IMAGES = HERE.parent / "images"
VERSION = "words@4"
WINDOW = {"width": 1180, "height": 760}
COLOURS = 128
FLAGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def embreg(folder: Path, *words: str) -> None:
    """Run a command in the demo's folder."""
    command = [str(Path(sys.executable).with_name("embreg")), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


def save(png: bytes, name: str) -> None:
    """Keep a picture in as many colours as a page needs."""
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(IMAGES / name, optimize=True)
    print(f"docs/images/{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")


def drawn(browser: Browser, path: Path) -> Page:
    """Open a page and wait for its pictures."""
    page = browser.new_page(viewport=WINDOW, color_scheme="light", reduced_motion="reduce", locale="en-GB",
                            timezone_id="UTC")  # fmt: skip
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    page.evaluate(_STOP_CLOCKS)
    return page


#: Every time of day in view becomes the same one, so that a picture changes with the code only.
_STOP_CLOCKS = r"""() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    text.data = text.data.replace(/\d{4}-\d\d-\d\d \d\d:\d\d UTC/g, "2026-01-31 12:00 UTC");
  }
}"""


def report(browser: Browser, folder: Path, work: Path) -> None:
    """The top of the report: may it ship, and why not."""
    embreg(folder, "report", VERSION, "-o", str(work / "report.html"))
    page = drawn(browser, work / "report.html")
    save(page.screenshot(), "report.png")


def pictures(browser: Browser, folder: Path, work: Path) -> None:
    """The first four metrics of an embedding over its versions."""
    embreg(folder, "site", str(work / "site"))
    page = drawn(browser, next((work / "site" / "embeddings").glob("words-*.html")))
    boxes = [box for figure in page.locator("figure").all()[:4] if (box := figure.bounding_box())]
    top, bottom = min(box["y"] for box in boxes) - 16, max(box["y"] + box["height"] for box in boxes)
    clip = {"x": 0, "y": top, "width": WINDOW["width"], "height": bottom - top}
    save(page.screenshot(full_page=True, clip=clip), "site.png")


def main() -> None:
    """Take the pictures; run the demo first if it was not."""
    folder = Path(sys.argv[1]).absolute()
    if not (folder / ".embreg").exists():
        subprocess.run([sys.executable, str(HERE / "run.py"), str(folder)], check=True)
    found = os.environ.get("EMBREG_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit("screenshots: no Chromium: install one, or name it in EMBREG_CHROMIUM")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        report(browser, folder, Path(work))
        pictures(browser, folder, Path(work))
        browser.close()


if __name__ == "__main__":
    main()
