"""``embreg site``: a directory of pages, brought up to date, by one process or by several at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable, connect

from .conftest import Cli


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Some versions, measured by nothing: pages are cheap."""
    rng = np.random.default_rng(0)
    with connect(tmp_path / ".embreg", create=True) as registry:
        for _ in range(12):
            x = rng.standard_normal((20, 4)).astype("f4")
            registry.register("words", EmbeddingTable.from_arrays([f"w{i}" for i in range(20)], x))
    return tmp_path / ".embreg"


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    code = "from embreg.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, "site", *words], cwd=folder,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def test_a_site_is_written_once(cli: Cli, registry: Path) -> None:
    first = cli.json("site", "public")
    assert set(first) == {"path", "pages", "written", "removed", "unchanged"}
    assert first["written"] == first["pages"] == len(files(cli.folder / "public")) - 1
    assert first["path"] == str(cli.folder / "public")
    again = cli.json("site", "public")
    assert (again["written"], again["unchanged"]) == (0, first["pages"])
    cli("alias", "set", "words", "production", "words@3")
    done = cli("site", "public")
    told = " ".join(done.stdout.split())  # a long path wraps
    assert told.endswith("files written, 0 removed")
    assert done.stderr == ""
    assert 0 < int(told.split(": ")[1].split(" of ")[0]) < first["pages"] / 2


def test_the_title_is_told(cli: Cli, registry: Path) -> None:
    cli("site", "public", "--title", "<b>Search & find</b>")
    home = (cli.folder / "public" / "index.html").read_text()
    assert "<h1>&lt;b&gt;Search &amp; find&lt;/b&gt;</h1>" in home


def test_bounds_of_the_configuration_are_taken(cli: Cli, registry: Path) -> None:
    first = cli.json("site", "public")
    (cli.folder / "embreg.toml").write_text('[[gates]]\nmetric = "hubness.skewness"\nmax = 3\n')
    assert cli.json("site", "public")["written"] == first["pages"]


def test_a_directory_of_others_is_refused(cli: Cli, registry: Path) -> None:
    (cli.folder / "public").mkdir()
    (cli.folder / "public" / "mine.txt").write_text("mine")
    line = cli.fails("site", "public", code=2)
    assert "holds other files" in line
    assert "--force" in line
    cli("site", "public", "--force")
    assert (cli.folder / "public" / "mine.txt").read_text() == "mine"
    assert "no registry" in cli.fails("site", "elsewhere", "--registry", "nowhere")
    assert not (cli.folder / "elsewhere").exists()


def test_the_registry_is_no_place_for_it(cli: Cli, registry: Path) -> None:
    assert "has no name" in cli.fails("site", "", code=2)
    for place in (registry, registry / "site"):
        assert "is the registry" in cli.fails("site", str(place), "--force", code=2)


@pytest.mark.parametrize("pages", ['{"index.html": ["", Infinity]}', "[" * 100_000], ids=["infinite", "deep"])
def test_a_damaged_manifest_makes_every_page_anew(cli: Cli, registry: Path, pages: str) -> None:
    whole = cli.json("site", "public")["pages"]
    (cli.folder / "public" / ".embreg-site.json").write_text(f'{{"pages": {pages}}}')
    assert cli.json("site", "public")["written"] == whole


def test_a_disk_that_refuses_is_told(cli: Cli, registry: Path) -> None:
    cli("site", "public")
    (cli.folder / "public" / "index.html").unlink()
    (cli.folder / "public" / "index.html").mkdir()
    assert "cannot write" in cli.fails("site", "public")


def test_two_at_once_end_in_a_whole_site(cli: Cli, registry: Path) -> None:
    running = [start(cli.folder, "public") for _ in range(2)]
    for one in running:
        assert one.communicate()[1] == b""
        assert one.returncode == 0
    cli("site", "fresh")
    assert files(cli.folder / "public") == files(cli.folder / "fresh")
    assert cli.json("site", "public")["written"] == 0


@pytest.mark.parametrize("pages", [1, 9])
def test_what_a_killed_run_left_is_completed(cli: Cli, registry: Path, pages: int) -> None:
    running = start(cli.folder, "public")
    site = cli.folder / "public"
    deadline = time.monotonic() + 60
    while len(list(site.rglob("*.html"))) < pages and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    cli("site", "public")
    cli("site", "fresh")
    left = {name: content for name, content in files(site).items() if ".embreg-part-" not in name}
    assert left == files(cli.folder / "fresh")
