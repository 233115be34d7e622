"""The wheel holds embreg/ and nothing else, and works where nothing but it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (".", "registry", "registry/formats", "evals", "evals/suites", "evals/report",
            "evals/report/charts", "evals/site", "evals/sweeps", "evals/ui", "migrations",
            "migrations/versions")  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    ignored = shutil.ignore_patterns(".*", "demo", "build", "dist", "*.egg-info", "__pycache__", "*.so")
    shutil.copytree(ROOT, source, ignore=ignored)
    target = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            target,
            source,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("embreg-*.whl")
    return built


def test_the_wheel_holds_the_modules_the_templates_and_nothing_else(wheel: Path) -> None:
    held = {
        name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")
    }
    modules = {p for package in PACKAGES for p in (ROOT / package).glob("*.py")}
    others = [
        ROOT / "py.typed",
        ROOT / "migrations/script.py.mako",
        ROOT / "evals/sweeps/_int8.pyi",
        ROOT / "evals/embreg.schema.json",
        ROOT / "evals/embreg.schema.json",
        *(p for p in (ROOT / "evals/report/templates").rglob("*") if p.is_file()),
        *(ROOT / "registry/english").iterdir(),
    ]
    expected = {f"embreg/{p.relative_to(ROOT).as_posix()}" for p in (*modules, *others)}
    assert held - expected == {"embreg/evals/sweeps/_int8.abi3.so"}
    assert expected <= held
    assert "-cp311-abi3-" in wheel.name


def test_only_two_modules_stand_at_the_root() -> None:
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "cli.py"}


def test_every_package_is_listed() -> None:
    """A new folder with modules that is not in pyproject.toml would be missing from the wheel."""
    found = {p.parent.relative_to(ROOT).as_posix() for top in ("registry", "evals", "migrations")
             for p in (ROOT / top).rglob("__init__.py")}  # fmt: skip
    assert found == set(PACKAGES) - {"."}


def test_the_installed_wheel_registers_and_evaluates_outside_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """Unpacked into an empty folder that stands before everything else on the path."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    work = tmp_path / "work"
    work.mkdir()
    script = f"""
import sys
sys.path.insert(0, {str(site)!r})
import embreg, numpy as np
assert embreg.__file__.startswith({str(site)!r}), embreg.__file__
np.save("x.npy", np.random.default_rng(0).standard_normal((200, 8)).astype("f4"))
from embreg.cli import main
shown = "dataset show builtin/english/pairs"
for line in ("init", "register docs x.npy", "eval docs --suite hubness", shown, "db current"):
    words = line.split()
    try:
        main(words)
    except SystemExit as exc:
        assert exc.code == 0, words
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=work, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skewness" in done.stdout


def test_help_and_list_load_nothing_heavy(tmp_path: Path) -> None:
    """Start-up is a matter of imports: --help needs click only, list no Arrow, numpy, torch or faiss."""
    script = """
import sys
from embreg.cli import main
try:
    main(sys.argv[1:])
except SystemExit as exc:
    assert exc.code == 0
heavy = ("sqlalchemy", "alembic", "numpy", "pyarrow", "torch", "faiss", "scipy", "jinja2")
print("loaded:", *(m for m in heavy if m in sys.modules))
"""

    def loaded(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.rpartition("loaded:")[2].strip()

    assert loaded("--help") == ""
    assert loaded("init") == "sqlalchemy alembic"
    assert loaded("list") == "sqlalchemy"
    assert loaded("index", "status") == "sqlalchemy"
