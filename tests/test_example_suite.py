"""The package in docs/example-suite: built, installed, found, measured with, gated on, as in its README."""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

EXAMPLE = Path(__file__).parent.parent / "docs" / "example-suite"
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it; built from a copy, so that nothing is left in the tree."""
    source = tmp_path_factory.mktemp("source") / "example-suite"
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
    shutil.copytree(EXAMPLE, source, ignore=ignored)
    target = tmp_path_factory.mktemp("site")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", target, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def fold(word: str) -> str:
    """What the README says of spellings, written anew: case and accents do not count."""
    return unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()


def spelt(words: list[str]) -> list[int]:
    """The places of words with another spelling among those that are Latin letters but for accents."""
    plain = {i: fold(w) for i, w in enumerate(words) if len(fold(w)) == len(w) > 1 and fold(w).isalpha()}
    counts = Counter(plain.values())
    return [i for i, word in plain.items() if counts[word] > 1]


class Work:
    """A folder with a registry, and the commands that are run in it."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        script = folder / "bin" / "embreg"
        script.parent.mkdir()
        script.write_text(f"#!{sys.executable}\nfrom embreg.cli import main\nmain()\n")
        script.chmod(0o755)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("EMBREG")} | {
            "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(site),
            "COLUMNS": "110",
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def json(self, command: str, code: int = 0) -> Any:
        done = self.run(f"{command} --json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rows(glove: tuple[list[str], np.ndarray]) -> tuple[list[str], np.ndarray]:
    """The first 1,000 words of GloVe, and all respelled ones of the first 60,000."""
    words = glove[0][:60_000]
    kept = sorted({*range(1000), *spelt(words)})
    return [words[i] for i in kept], np.array(glove[1][kept], dtype=np.float32)


@pytest.fixture(scope="module")
def work(rows: tuple[list[str], np.ndarray], site: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """words@1 is GloVe; in words@2 the words with accents have each other's vectors: a slip of rows."""
    words, vectors = rows
    work = Work(tmp_path_factory.mktemp("work"), site)
    slipped = vectors.copy()
    accented = [i for i, word in enumerate(words) if not word.isascii()]
    slipped[accented] = np.roll(vectors[accented], 1, axis=0)
    for name, x in (("glove", vectors), ("slipped", slipped)):
        pq.write_table(pa.table({"id": words, "vector": list(x)}), work.folder / f"{name}.parquet")
    toml = re.search(r"^```toml\n(# embreg.toml\n.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    assert toml
    (work.folder / "embreg.toml").write_text(toml[1])
    for command in ("init", "register words glove.parquet --kind word", "register words slipped.parquet"):
        done = work.run(f"embreg {command}")
        assert done.returncode == 0, done.stderr
    return work


def readme() -> str:
    return (EXAMPLE / "README.md").read_text(encoding="utf-8")


def test_its_own_tests_pass_on_the_installed_package(site: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_the_suite_is_listed_with_the_package_that_brings_it(work: Work) -> None:
    told = work.json("embreg suites")
    assert told["left_out"] == []
    (own,) = [suite for suite in told["suites"] if suite["name"] == "spelling"]
    assert own["from"] == "embreg-spelling 0.1.0"
    assert own["metrics"] == ["hit@k", "cosine", "respelled"]
    assert {suite["from"] for suite in told["suites"] if suite is not own} == {"embreg"}
    shown = work.json("embreg suites show spelling")
    assert all(parameter["doc"] for parameter in shown["parameters"])
    assert all(metric[field] for metric in shown["metrics"] for field in ("doc", "formula", "source", "unit"))
    listed = work.run("embreg suites --from embreg-spelling --markdown").stdout
    assert "## spelling" in listed
    assert "## hubness" not in listed
    assert "from embreg-spelling 0.1.0" in listed


def test_the_numbers_are_those_of_brute_force(work: Work, rows: tuple[list[str], np.ndarray]) -> None:
    words, vectors = rows
    (run,) = work.json("embreg eval words@1 --suite spelling -p spelling.k=3")["runs"]
    found = {m["metric"]: m for m in run["measures"]}
    units = vectors.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    folded = [fold(word) for word in words]
    hits, cosines = [], []
    for i in (own := spelt(words)):
        scores = units @ units[i]
        scores[i] = -np.inf
        others = [j for j in own if j != i and folded[j] == folded[i]]
        hits.append(bool(set(others) & set(np.argsort(-scores, kind="stable")[:3].tolist())))
        cosines.append(scores[others].max())
    assert run["status"] == "done"
    assert len(own) > 100
    assert 0.1 < np.mean(hits) < 0.9
    assert found["hit@3"]["n"] == found["cosine"]["n"] == len(own)
    assert found["hit@3"]["value"] == pytest.approx(np.mean(hits), abs=1e-12)
    assert found["hit@3"]["low"] < np.mean(hits) < found["hit@3"]["high"]
    assert found["cosine"]["value"] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found["respelled"]["value"] == pytest.approx(len(own) / len(words))


def test_a_gate_tests_it_in_pairs(work: Work) -> None:
    verdict = work.json("embreg gate words@2 --baseline words@1", code=1)
    assert not verdict["passed"]
    failed = {check["metric"]: check for check in verdict["checks"] if check["outcome"] == "failed"}
    assert set(failed) == {"spelling.hit@10", "spelling.cosine"}
    for check in failed.values():
        assert check["value"] < check["baseline"]
        p = re.search(r"\bp (<|=) (\.\d+)", check["reason"])
        assert p, "tested item by item: a p-value is told"
        assert float(p[2]) <= 0.01
    assert work.json("embreg gate words@1 --baseline words@1")["passed"]


def test_the_readme_shows_what_is_printed(work: Work) -> None:
    checker, ran = doctest.OutputChecker(), 0
    for block in re.findall(r"^```console\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, wanted = part.partition("\n")
            if not command.startswith("embreg ") or "register" in command:
                continue
            done = work.run(command)
            got = done.stdout + done.stderr
            got += f"(exit code {done.returncode})\n" if done.returncode else ""
            assert checker.check_output(wanted.replace("…", "..."), got.replace("…", "..."), _SAME), got
            ran += 1
    assert ran >= 4


def test_the_readme_quotes_the_code() -> None:
    """Code in the README stands in the package, line for line."""
    files = [EXAMPLE / "pyproject.toml", *EXAMPLE.glob("src/*/*.py"), *EXAMPLE.glob("tests/*.py")]
    kept = "\n".join(path.read_text(encoding="utf-8") for path in files)
    quoted = re.findall(r"^```(?:python|toml)\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    parts = [part for block in quoted if "embreg.toml" not in block for part in block.split("…\n")]
    assert len(parts) >= 3
    for part in parts:
        assert part.strip("\n") in kept, part
