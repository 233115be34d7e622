"""``pytest --embreg``: each check is a test, in processes of their own as a user would run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from embreg import connect
from embreg.evals import pytest_plugin
from embreg.evals.gate import CheckResult, Outcome, Verdict

CHECKS = """\
[[gates]]
metric = "drift.neighbor_overlap@10"
min = 0.8

[[gates]]
metric = "drift.raw_cosine"
labels = { }
min = 0.999999
severity = "warning"

[[gates]]
metric = "similarity.spearman"
labels = { "a::b" = "c" }
max_drop = 0.01
on_missing = "skip"

[[gates]]
metric = "drift.neighbor_overlap@10"
max = 1
"""
IDS = [
    "embreg::docs@4::drift.neighbor_overlap@10",
    "embreg::docs@4::drift.raw_cosine",
    "embreg::docs@4::similarity.spearman[a:b=c]",
    "embreg::docs@4::drift.neighbor_overlap@10#2",
]


@pytest.fixture(scope="module")
def kept(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("plugin") / "work"
    shutil.copytree(releases, copy)
    (copy / "embreg.toml").write_text(CHECKS)
    (copy / "test_of_theirs.py").write_text("def test_theirs(): pass\n")
    (copy / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")
    return copy


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "work")
    return tmp_path / "work"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EMBREG_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", *words]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_a_version_that_passes(folder: Path) -> None:
    done = run(folder, "--embreg", "docs@3", "--embreg-baseline", "docs@2", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout
    assert "test_theirs" not in done.stdout and "of_theirs" not in done.stdout
    assert "needs a dataset of kind pairs" in done.stdout
    warned = done.stdout.partition("= embreg warnings =")[2]
    assert "embreg::docs@3::drift.raw_cosine: .99" in warned
    with connect(folder / ".embreg") as registry:
        assert registry.verdict("docs@3", "docs@2").passed


def test_one_that_fails_measured_once_by_two_workers(folder: Path) -> None:
    done = run(folder, "--embreg=docs@4", "-n2", "--junitxml=gate.xml", "test_of_theirs.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 3 passed, 1 skipped" in done.stdout
    assert "Traceback" not in done.stdout and "pytest_plugin.py" not in done.stdout.partition("short test")[0]
    cases = {case.get("name"): case for case in ET.parse(folder / "gate.xml").iter("testcase")}
    assert set(cases) == {"test_theirs", *(i.rpartition("::")[2] for i in IDS)}
    failure = cases["drift.neighbor_overlap@10"].find("failure")
    assert failure is not None and failure.get("message").endswith("is below 0.8")
    assert cases["drift.neighbor_overlap@10"].get("classname") == "embreg.docs@4"
    (told,) = cases["drift.raw_cosine"].iter("property")
    assert told.get("name") == "embreg_warning" and "is below" in told.get("value")
    with connect(folder / ".embreg") as registry:
        actions = [event.action for event in registry.log("docs")]
        assert actions.count("gate.failed") == 1
        assert len(registry.runs("docs@4")) == 1


def test_collecting_measures_nothing_and_names_every_check_once(folder: Path) -> None:
    done = run(folder, "--embreg", "docs@4", "--collect-only", "-q")
    assert [line for line in done.stdout.split("\n") if "::" in line] == IDS
    only = run(folder, "--embreg", "docs@4", "--collect-only", "-q", "-k", "raw_cosine")
    assert [line for line in only.stdout.split("\n") if "::" in line] == [IDS[1]]
    with connect(folder / ".embreg") as registry:
        assert registry.runs("docs@4") == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--embreg", "docs@9"], "ERROR: embreg: no version 'docs@9'"),
        (["--embreg", "docs@3", "--embreg-config", "pytest.ini"], "ERROR: embreg: pytest.ini: line 2:"),
        (["--embreg", "docs@3", "--embreg-config", "."], "ERROR: embreg: .: Is a directory"),
        (["--embreg", "docs@3", "--embreg-registry", "nowhere"], "ERROR: embreg: no registry at"),
        (["--embreg=docs@3", "--embreg=docs@4", "--embreg-baseline=docs@2"], "ERROR: --embreg-baseline"),
        (["--embreg", "docs@9", "-n2"], "ERROR: embreg: no version 'docs@9'"),
    ],
    ids=["version", "config", "folder", "registry", "baseline", "workers"],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line(kept: Path, words: list[str], told: str) -> None:
    done = run(kept, *words)
    assert done.returncode == 4
    (line,) = [line for line in done.stderr.split("\n") if line]
    assert line.startswith(told)


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_modules.py").write_text(
        "import sys\n\ndef test_modules():\n"
        "    own = sorted(m for m in sys.modules if m.startswith('embreg'))\n"
        "    assert own == ['embreg', 'embreg.evals', 'embreg.evals.pytest_plugin']\n"
        "    assert not {'numpy', 'torch', 'pyarrow', 'sqlalchemy', 'click', 'faiss'} & set(sys.modules)\n"
    )
    done = run(tmp_path, "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio", "-q")
    assert done.returncode == 0, done.stdout


def check(nth: int, outcome: Outcome, reason: str) -> CheckResult:
    return CheckResult(metric="a.b", labels={}, value=None, baseline=None, bound="", outcome=outcome,
                       reason=reason, nth=nth)  # fmt: skip


def test_a_check_on_several_datasets_is_as_bad_as_its_worst() -> None:
    first = (
        check(0, Outcome.PASSED, "fine"),
        check(0, Outcome.FAILED, "bad"),
        check(0, Outcome.WARNED, "so"),
    )
    checks = (*first, check(1, Outcome.PASSED, "fine"), check(1, Outcome.SKIPPED, "none"))
    verdict = Verdict(ref="e@2", baseline=None, checks=checks)
    assert pytest_plugin._outcome(verdict, 0) == {"outcome": "failed", "reason": "bad"}
    assert pytest_plugin._outcome(verdict, 1) == {"outcome": "passed", "reason": "fine"}


def test_where_nothing_was_judged_nothing_passes() -> None:
    verdict = Verdict(ref="e@2", baseline=None, checks=(check(0, Outcome.SKIPPED, "no dataset"),))
    assert pytest_plugin._outcome(verdict, 0) == {
        "outcome": "failed",
        "reason": "no dataset; nothing was judged",
    }
