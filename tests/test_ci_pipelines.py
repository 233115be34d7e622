"""The GitHub action and the GitLab job: their scripts, run as by a runner, on a good and a broken version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from embreg import connect

from .test_wheel import ROOT

ACTION = yaml.safe_load((ROOT / ".github/actions/gate/action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / "docs/ci/github.yml").read_text())
JOB = yaml.safe_load((ROOT / "docs/ci/gitlab.yml").read_text())["embreg gate"]
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
CHECKS = '[[gates]]\nmetric = "drift.neighbor_overlap@10"\nmin = 0.8\n'


@pytest.fixture
def folder(releases: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "a b"
    shutil.copytree(releases, copy)
    (copy / "embreg.toml").write_text(CHECKS)
    return copy


def bash(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script as runners do: stopped by the first command that fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMBREG_", "GITHUB_"))}
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=folder, env=kept | {"PATH": path} | env, capture_output=True, text=True, check=False
    )


def filled(step: dict[str, Any], inputs: dict[str, str]) -> dict[str, str]:
    """Return the environment of a step, its expressions replaced by what a caller passes."""
    defaults = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
    given = defaults | inputs
    return {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: given[m[1]], text)
        for name, text in step.get("env", {}).items()
    }


def held(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    step, told = STEPS["Gate"], folder / "output.txt"
    env = {"GITHUB_OUTPUT": str(told), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    return bash(step["run"], folder, **filled(step, inputs), **env)


class TestTheAction:
    def test_passes_what_passes_and_leaves_reports(self, folder: Path) -> None:
        done = held(folder, ref="docs@3", baseline="docs@2", config="embreg.toml", registry=".embreg")
        assert done.returncode == 0, done.stderr
        assert (folder / "output.txt").read_text() == "passed=true\n"
        assert (folder / "summary.md").read_text().startswith("## ✓ docs@3 passes against docs@2")
        assert {p.name for p in (folder / "embreg-gate").iterdir()} == {"gate.xml", "gate.md", "gate.html"}

    def test_fails_what_fails_and_leaves_reports(self, folder: Path) -> None:
        done = held(folder, ref="docs@4", reports="out here")
        assert done.returncode == 1, done.stderr
        assert (folder / "output.txt").read_text() == "passed=false\n"
        assert "✗ docs@4 fails against docs@2" in (folder / "summary.md").read_text()
        root = ET.parse(folder / "out here" / "gate.xml").getroot()
        assert root.get("failures") == "1"
        assert (folder / "out here" / "gate.html").stat().st_size > 1000

    @pytest.mark.parametrize(
        ("inputs", "code"),
        [
            ({"ref": "docs@9"}, 3),
            ({"ref": "docs@3", "config": "no.toml"}, 2),
            ({"ref": "--help"}, 2),
            ({"ref": "init"}, 3),
            ({"ref": "$(touch owned)"}, 2),
            ({"ref": "docs@3", "baseline": "'; touch owned; '"}, 2),
            ({"ref": "docs@3", "registry": "`touch owned`"}, 3),
        ],
        ids=["version", "config", "option", "init", "command", "quote", "backtick"],
    )
    def test_what_is_wrong_keeps_its_code_and_runs_nothing(
        self, folder: Path, inputs: dict[str, str], code: int
    ) -> None:
        done = held(folder, **inputs)
        assert done.returncode == code, done.stdout + done.stderr
        assert not (folder / "output.txt").exists()
        assert not (folder / "owned").exists()

    def test_installs_what_lies_beside_it(self, folder: Path, tmp_path: Path) -> None:
        """From a copy, so that nothing is left in the tree; without the network."""
        checkout = tmp_path / "checkout"
        ignored = shutil.ignore_patterns(".*", "demo", "build", "dist", "*.egg-info", "__pycache__", "*.so",
                                         "tests", "bench")  # fmt: skip
        shutil.copytree(ROOT, checkout, ignore=ignored)
        action = checkout / ".github/actions/gate"
        action.mkdir(parents=True)
        env = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        env |= {"PIP_TARGET": str(tmp_path / "site"), "GITHUB_ACTION_PATH": str(action)}
        step = STEPS["Install embreg"]
        done = bash(step["run"], folder, **filled(step, {}), **env)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "site/embreg/cli.py").is_file()

    def test_no_script_holds_what_a_caller_passes(self) -> None:
        for step in STEPS.values():
            assert "${{" not in step.get("run", "")
            assert ("run" in step) == (step.get("shell") == "bash")
        assert STEPS["Keep the reports"]["if"].startswith("${{ always()")

    def test_the_example_passes_inputs_that_it_has(self) -> None:
        uses = [s for s in WORKFLOW["jobs"]["gate"]["steps"] if "actions/gate" in s.get("uses", "")]
        (step,) = uses
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert {name for name, one in ACTION["inputs"].items() if one.get("required")} <= set(step["with"])
        assert list(ACTION["outputs"]) == ["passed"]


def register(vectors: str, script: str) -> str:
    """Return the command of an example that registers the candidate, with vectors that are there."""
    assert "vectors/docs.npy" in script
    return script.replace("vectors/docs.npy", f"vectors/{vectors}.npy")


@pytest.mark.parametrize(("vectors", "code"), [("good", 0), ("broken", 1)])
def test_the_gitlab_job(folder: Path, vectors: str, code: int) -> None:
    _, candidate = JOB["before_script"]
    (script,) = JOB["script"]
    env = JOB["variables"] | {"EMBREG_REGISTRY": str(folder / ".embreg")}
    assert bash(register(vectors, candidate), folder, **env).returncode == 0
    done = bash(script, folder, **env)
    assert done.returncode == code, done.stdout + done.stderr
    root = ET.parse(folder / JOB["artifacts"]["reports"]["junit"]).getroot()
    assert root.get("failures") == str(code)
    assert all((folder / name).is_file() for name in JOB["artifacts"]["paths"])


def test_the_workflow_registers_what_it_gates(folder: Path) -> None:
    steps = WORKFLOW["jobs"]["gate"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("name") == "Register the candidate"]
    done = bash(register("broken", script), folder, EMBREG_REGISTRY=str(folder / ".embreg"))
    assert done.returncode == 0, done.stderr
    with connect(folder / ".embreg") as registry:
        assert registry.resolve("docs@candidate").ref == "docs@4"
    again = bash(f"{register('broken', script)} --json", folder, EMBREG_REGISTRY=str(folder / ".embreg"))
    assert json.loads(again.stdout)["created"] is False
