"""The scripts behind ``make soak`` and ``make fuzz`` work: a small helping of each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_a_few_kills_and_a_small_crowd(tmp_path: Path) -> None:
    words = ["--moments", "7", "--processes", "4", "--each", "2", "--seed", "5"]
    env = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(TESTS / "soak"), *words], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 kills" in done.stdout
    assert "numbers 1..8, no gap, no loss" in done.stdout
    assert "16 of 16 transactions met a lock" in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing is kept where nothing is wrong"


def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embreg_fuzz", TESTS / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SMALL = [attack for attack in fuzz().ATTACKS if attack[0].partition(".")[0] in ("rows", "width", "lying")]


@pytest.mark.parametrize(("name", "format_", "make", "readable"), SMALL, ids=[a[0] for a in SMALL])
def test_a_header_that_promises_a_million_million_is_refused_at_once(name, format_, make, readable) -> None:
    found = fuzz().attack(name, format_, make)
    assert found.told.startswith("refused: ")
    assert found.peak < 300
    assert found.seconds < 10
