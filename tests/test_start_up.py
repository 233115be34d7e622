"""What a command waits for before it does anything: the modules that it loads, in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embreg import EmbeddingTable, connect

#: Each takes from 30 milliseconds to seconds to load.
NUMERIC = {"faiss", "h5py", "numpy", "pyarrow", "safetensors", "scipy", "sklearn", "torch", "xxhash"}
HEAVY = NUMERIC | {"alembic", "concurrent.futures.process", "jinja2", "threadpoolctl"}
#: What the database needs, and what draws tables.
DATABASE, DRAWN = {"sqlalchemy", "sqlite3"}, {"rich"}
#: The tables and values of what a listing of versions does not show.
OTHERS = {
    f"embreg.registry.{name}" for name in ("orm_dependents", "orm_runs", "outcomes", "measured", "records")
}

#: Tells what was loaded beyond what Python itself loads, which an editable installation adds to.
TOLD = """
import sys
before = set(sys.modules)
import atexit
atexit.register(lambda: sys.stderr.write("\\nLOADED " + " ".join(set(sys.modules) - before)))
"""
COMMAND = "from embreg.cli import main; main({words!r})"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of one version below the working directory."""
    path = tmp_path_factory.mktemp("start")
    with connect(path / ".embreg", create=True) as registry:
        registry.register("words", EmbeddingTable.from_arrays(["a", "b"], [[1.0, 0.0], [0.0, 1.0]]))
        registry.alias("words", "production", "words@1")
    return path


def loaded(code: str, folder: Path) -> set[str]:
    """Return the modules of a fresh process that ran the code, each with the packages it is in."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD + code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = done.stderr.rpartition("\nLOADED ")[2].split()
    return {
        ".".join(parts[:i]) for name in names for parts in [name.split(".")] for i in range(1, len(parts) + 1)
    }


def test_importing_embreg_loads_nothing(folder: Path) -> None:
    found = loaded("import embreg", folder)
    assert {name for name in found if name.startswith("embreg")} == {"embreg"}
    assert not found & (HEAVY | DATABASE | DRAWN | {"click", "dataclasses", "pathlib"})


@pytest.mark.parametrize(
    ("words", "not_for_this"),
    [
        (
            ["--help"],
            DATABASE | DRAWN | {"embreg.evals", "embreg.registry.types", "difflib", "json", "pathlib"},
        ),
        (["--version"], DATABASE | DRAWN | {"embreg.evals", "embreg.registry.types"}),
        (["register", "--help"], DATABASE | DRAWN | {"embreg.evals", "embreg.registry.types"}),
        (["list"], OTHERS | {"embreg.evals.suite", "tomllib"}),
        (["list", "--json"], OTHERS | DRAWN),
        (["show", "words"], {"embreg.registry.orm_runs", "embreg.evals.suite"}),
        (["log"], OTHERS),
        (["alias", "list", "words"], {"embreg.registry.orm_runs"}),
        (["index", "list"], {"embreg.registry.orm_runs"}),
        (["db", "current"], set()),
        ([], {"embreg.evals.suite"}),
        (["--json"], DRAWN | {"embreg.evals.suite"}),
    ],
    ids=lambda value: (" ".join(value) or "embreg alone") if isinstance(value, list) else "",
)
def test_a_command_loads_what_it_needs(words: list[str], not_for_this: set[str], folder: Path) -> None:
    found = loaded(COMMAND.format(words=words), folder)
    assert "click" in found  # the names are those of modules that were loaded
    assert found & (HEAVY | not_for_this) == set()


def test_rows_are_read_without_what_measures_them(folder: Path) -> None:
    code = "import embreg\nwith embreg.connect('.embreg') as r: assert r.table('words').vectors.sum() == 2"
    found = loaded(code, folder)
    assert "pyarrow" in found
    assert not found & {"alembic", "click", "faiss", "pyarrow.dataset", "pyarrow.parquet", "scipy", "torch"}
