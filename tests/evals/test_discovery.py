"""Suites of other packages: found, or left out with a line that names the package and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import numpy as np
import pytest

from embreg.evals import discovery
from embreg.evals.discovery import GROUP, Discovered, SuiteLeftOut, find

GOOD = '''
"""Mine: how many rows are there? Source: own."""
from dataclasses import dataclass, field
from embreg.evals.suite import Better, Findings, Measure, Metric, Need, Suite

@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        k: nothing.
    """
    k: int = 1

METRIC = Metric("rows", unit="rows", better=Better.HIGHER, low=0.0, doc="Rows.", source="own")
GIVEN = dict(name="mine", version=1, params=Params, metrics=(METRIC,), needs=frozenset(), doc="Rows?",
             run=lambda subject, *_: Findings(measures=[Measure("rows", float(subject.table.rows), 1)]))
SUITE = Suite(**GIVEN)
'''


def plant(folder: Path, code: str, package: str = "embreg-mine", name: str = "mine") -> list[EntryPoint]:
    """Install a package of one module as pip would, and return the entry points of the folder."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:SUITE\n")
    found = [entry for d in distributions(path=[str(folder)]) for entry in d.entry_points]
    return [entry for entry in found if entry.group == GROUP]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that modules are imported from, and forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("embreg_mine", "embreg_other"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_a_suite_of_another_package_is_found(folder: Path) -> None:
    found = find(plant(folder, GOOD))
    assert found.left_out == ()
    assert found.suites["mine"].metrics[0].name == "rows"
    assert found.origins["mine"] == "embreg-mine 1.0"
    assert found.origins["hubness"] == "embreg"
    assert list(found.suites) == sorted(found.suites)
    assert list(found.only("embreg-mine").suites) == ["mine"]


def test_what_a_package_prints_while_it_loads_is_no_part_of_a_document(folder: Path, capsys) -> None:
    assert "mine" in find(plant(folder, f"{GOOD}\nprint('hello')\n")).suites
    assert capsys.readouterr() == ("", "hello\n")


BROKEN = {
    "import no_such_module": "does not load: ModuleNotFoundError: No module named 'no_such_module'",
    "raise SystemExit(3)": "does not load: SystemExit: 3",
    "x = 1 / 0": "does not load: ZeroDivisionError",
    "def f(:": "does not load: SyntaxError",
    "OTHER = 1": "does not load: AttributeError",
    "SUITE = 3": "gives a int, not an embreg.evals.suite.Suite",
    "name='other'": "the suite calls itself 'other', its entry point 'mine'",
    "version=0": "its version is 0",
    "version='1'": "its version is '1'",
    "run=None": "its run is no function",
    "doc=None": "its doc no text",
    "needs={Need.PAIRS}": "not frozensets of Need",
    "needs=frozenset({'pairs'})": "not frozensets of Need",
    "needs=frozenset({Need.PAIRS, Need.QRELS})": r"2 kinds of dataset \(pairs, qrels\)",
    "params=dict": "its params are no dataclass",
    "params=Params()": "its params are no dataclass",
    "params=dataclass(frozen=True)(type('P', (), {'__annotations__': {'k': int}}))": "'k' has no default",
    "params=dataclass(type('P', (), {'__annotations__': {'k': int}, 'k': 1}))": "its params can be changed",
    "params=dataclass(frozen=True)(type('P', (Params,), {'__annotations__': {'k': list}, 'k': field("
    "default_factory=list)}))": "'k' is a list",
    "params=dataclass(frozen=True)(type('P', (Params,), {'__post_init__': lambda self: 1 / 0}))":
        "default parameters are refused: ZeroDivisionError",
    "metrics=[METRIC]": "not a tuple of at least one Metric",
    "metrics=()": "not a tuple of at least one Metric",
    "metrics=('rows',)": "not a tuple of at least one Metric",
    "metrics=(METRIC, METRIC)": "its metric 'rows' is declared twice",
    "metrics=(Metric('a.b', unit='', better=Better.LOWER, doc='', source=''),)": "has a dot",
    "metrics=(Metric('a', unit=1, better=Better.LOWER, doc='', source=''),)": "a field of the wrong type",
    "metrics=(Metric('a', unit='', better='lower', doc='', source=''),)": "a field of the wrong type",
}  # fmt: skip


@pytest.mark.parametrize("change", BROKEN)
def test_a_broken_suite_is_left_out_with_the_reason(folder: Path, change: str) -> None:
    whole = any(change.startswith(word) for word in ("import", "raise", "x =", "def", "OTHER", "SUITE"))
    code = change if whole else f"{GOOD}\nSUITE = Suite(**dict(GIVEN, {change}))\n"
    found = find(plant(folder, code))
    assert "mine" not in found.suites
    (broken,) = found.left_out
    with pytest.raises(AssertionError, match=BROKEN[change]):
        raise AssertionError(broken.message)
    assert broken.message.startswith("suite 'mine' of embreg-mine 1.0 cannot be used: ")
    assert "\n" not in broken.message
    assert broken.hint == "mend the package, or go without it: 'pip uninstall embreg-mine'"
    assert found.without("mine") is broken
    assert "hubness" in found.suites


def test_a_name_of_embreg_stays_its_own(folder: Path) -> None:
    found = find(plant(folder, GOOD, name="hubness"))
    (broken,) = found.left_out
    assert broken.reason == "embreg has a suite of that name"
    assert found.origins["hubness"] == "embreg"
    assert found.without("hubness") is None


def test_of_two_packages_that_bring_one_name_neither_counts(folder: Path) -> None:
    """Which of them came first on the path would decide what a gate measures."""
    plant(folder, GOOD)
    found = find(plant(folder, GOOD, package="embreg-other"))
    assert "mine" not in found.suites
    assert {broken.package for broken in found.left_out} == {"embreg-mine", "embreg-other"}
    assert {broken.reason for broken in found.left_out} == {"2 packages bring a suite of that name"}


def test_a_warning_says_what_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = plant(folder, "import no_such_module")
    monkeypatch.setattr(discovery, "entry_points", lambda group: entries)
    with pytest.warns(SuiteLeftOut, match="suite 'mine' of embreg-mine 1.0 cannot be used"):
        found: Discovered = discovery.discovered.__wrapped__()
    assert "mine" not in found.suites


# -- the command line on a Friday evening -------------------------------------------------------------


class Evening:
    """A registry, a broken package on the path, and a configuration that names its suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.site.mkdir()

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EMBREG")}
        done = subprocess.run(
            [sys.executable, "-c", "from embreg.cli import main; main()", *words],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": str(self.site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done


WARNING = (
    "embreg: warning: suite 'mine' of embreg-mine 1.0 cannot be used: embreg_mine:SUITE does not load: "
    "ModuleNotFoundError: No module named 'gone' (mend the package, or go without it: "
    "'pip uninstall embreg-mine')"
)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    evening = Evening(tmp_path_factory.mktemp("evening"))
    np.save(evening.folder / "x.npy", np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32))
    plant(evening.site, "import gone")
    evening.run("init")
    evening.run("register", "docs", "x.npy")
    return evening


def test_other_suites_and_commands_go_on(evening: Evening) -> None:
    (evening.folder / "embreg.toml").write_text(
        '[suites.mine]\nk = 3\n[[gates]]\nmetric = "mine.rows"\nmin = 1\n'
    )
    assert evening.run("list").stderr == ""
    listed = evening.run("suites", "--json")
    assert listed.stderr == f"{WARNING}\n"
    (left,) = json.loads(listed.stdout)["left_out"]
    assert (left["name"], left["package"], left["version"]) == ("mine", "embreg-mine", "1.0")
    done = evening.run("eval", "docs", "--suite", "hubness", "--json")
    assert done.stderr == f"{WARNING}\n"
    assert [run["status"] for run in json.loads(done.stdout)["runs"]] == ["done"]


ASKS = ["eval docs --suite mine", "suites show mine.rows", "metrics docs --metric mine.rows"]


@pytest.mark.parametrize("command", ASKS)
def test_who_asks_for_it_is_told(evening: Evening, command: str) -> None:
    warning, error = evening.run(*command.split(), code=2).stderr.strip().split("\n")
    assert warning == WARNING
    assert error.removeprefix("embreg: ") == WARNING.removeprefix("embreg: warning: ")


def test_a_gate_that_names_it_does_not_pass(evening: Evening) -> None:
    own = '[[gates]]\nmetric = "hubness.skewness"\nmax = 9\n'
    toml = own + '[[gates]]\nmetric = "mine.rows"\nmin = 1\non_missing = "skip"\n'
    (evening.folder / "embreg.toml").write_text(toml)
    told = evening.run("gate", "docs", code=2)
    assert told.stdout == ""
    error = told.stderr.strip().split("\n")[-1]
    assert "embreg.toml: line 4: suite 'mine' of embreg-mine 1.0 cannot be used" in error
    assert "a version does not pass a check that cannot be made" in error
    (evening.folder / "embreg.toml").write_text(own)
    assert evening.run("gate", "docs").stderr == f"{WARNING}\n"
