"""What the browser tests share: a headless Chromium, a page that may do no wrong, a registry with a story."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ..conftest import Cli
from ..test_cli_ui import serving
from . import story
from .watched import Watch

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
WINDOW = {"width": 1280, "height": 900}


def executable() -> str:
    """Return the path of a Chromium; without one the tests are skipped, and fail in CI."""
    asked = os.environ.get("EMBREG_CHROMIUM")
    found = shutil.which(asked) if asked else None
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = found or shutil.which(name)
    if found is None:
        reason = "no Chromium: install one, or name it in EMBREG_CHROMIUM"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium with an empty profile."""
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page in a profile of its own: errors, warnings, dialogs and foreign requests fail the test."""
    watch = Watch(files=shared(tmp_path_factory))
    context = chromium.new_context(viewport=WINDOW, color_scheme="light", reduced_motion="reduce")
    context.set_default_timeout(15_000)
    watch.over(context)
    yield context.new_page()
    context.close()
    assert not watch.faults, "\n".join(watch.faults)


def shared(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all workers of a run have in common."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the worker which comes first has made, for all to read."""
    folder = shared(factory) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def registry_story(tmp_path_factory: pytest.TempPathFactory) -> story.Story:
    """The registry with a story; changed by no test."""
    folder = once(tmp_path_factory, "story", story.tell)
    return story.Story(folder=folder, registry=folder / ".embreg")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, registry_story: story.Story) -> Path:
    """The pages that ``embreg site`` writes of it."""
    command = Cli(registry_story.folder)
    return once(tmp_path_factory, "site", lambda folder: command("site", str(folder / "public"))) / "public"


@pytest.fixture(scope="session")
def ui(registry_story: story.Story) -> Iterator[str]:
    """Where ``embreg ui`` serves it."""
    with serving(registry_story.folder) as (_, address):
        yield address["url"]
