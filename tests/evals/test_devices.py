"""The choice of a device: who may make it, what it refuses, and that answers do not depend on it."""

import contextvars
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from embreg.evals import devices
from embreg.evals.devices import at_device, device, device_for
from embreg.registry.errors import UnknownChoice, UsageError

CUDA = torch.cuda.is_available()
LARGE = 1 << 60


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch):
    monkeypatch.delenv("EMBREG_DEVICE", raising=False)


class TestChoice:
    def test_it_is_auto_unless_something_says_another(self, monkeypatch):
        assert device() == "auto"
        monkeypatch.setenv("EMBREG_DEVICE", "cpu")
        assert device() == "cpu"
        with at_device("auto"):
            assert device() == "auto"
            with at_device(None):
                assert device() == "cpu"
            assert device() == "auto"
        assert device() == "cpu"

    def test_it_is_gone_after_an_error(self):
        with pytest.raises(ZeroDivisionError), at_device("cpu"):
            1 / 0  # noqa: B018
        assert device() == "auto"

    def test_another_context_is_not_told(self):
        with at_device("cpu"):
            assert contextvars.Context().run(device) == "auto"

    def test_no_such_device(self, monkeypatch):
        with (
            pytest.raises(UnknownChoice, match=r"unknown device 'cud' \(did you mean 'cuda'\?\)"),
            at_device("cud"),
        ):
            pass
        monkeypatch.setenv("EMBREG_DEVICE", "tpu-thing")
        with pytest.raises(
            UnknownChoice, match=r"unknown \$EMBREG_DEVICE 'tpu-thing' \(one of: auto, cpu, cuda\)"
        ):
            device()

    @pytest.mark.skipif(CUDA, reason="there is a CUDA device")
    def test_cuda_where_there_is_none(self, monkeypatch):
        with pytest.raises(UsageError, match=r"no CUDA device here \('auto'"), at_device("cuda"):
            pass
        monkeypatch.setenv("EMBREG_DEVICE", "cuda")
        with pytest.raises(UsageError, match="no CUDA device here"):
            device_for(1, 1)


class TestWork:
    @pytest.mark.skipif(CUDA, reason="there is a CUDA device")
    def test_without_cuda_auto_is_the_processor(self):
        assert device_for(LARGE, 1) == "cpu"

    def test_small_work_stays_on_the_processor(self):
        assert device_for(1 << 30, 1 << 20) == "cpu"

    @pytest.mark.skipif(not CUDA, reason="torch finds no CUDA device here")
    def test_with_cuda(self):
        assert device_for(LARGE, 1 << 20) == "cuda"
        assert device_for(LARGE, LARGE) == "cpu"
        with at_device("cuda"):
            assert device_for(1, 1) == "cuda"
        with at_device("cpu"):
            assert device_for(LARGE, 1) == "cpu"

    @pytest.mark.skipif(devices._DEVICES.joinpath("nvidia0").exists(), reason="there is a driver")
    def test_no_driver_no_torch(self):
        code = (
            "import sys; from embreg.evals.devices import device_for; "
            "print(device_for(1 << 60, 1), 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["cpu", "False"]


def embreg(folder, *words, **env):
    code = f"from embreg.cli import main; main({list(words)!r})"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env={**os.environ, **env}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    for words in (["init"], ["register", "x", "x.npy"]):
        assert embreg(folder, *words).returncode == 0
    return folder


class TestCommandLine:
    def test_neighbours_are_the_same(self, folder):
        asked = [embreg(folder, "neighbors", "x", "3", "--json", *more).stdout
                 for more in ((), ("--device", "cpu"), ("--device", "auto"))]  # fmt: skip
        assert len(set(asked)) == 1
        assert len(json.loads(asked[0])["neighbors"]) == 10

    def test_a_wrong_one_is_one_line(self, folder):
        done = embreg(folder, "neighbors", "x", "3", "--device", "cpuu", "--json")
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["type"] == "UnknownChoice"
        assert done.stderr == "embreg: unknown device 'cpuu' (did you mean 'cpu'?)\n"

    def test_a_wrong_environment_fails_before_anything_is_measured(self, folder):
        done = embreg(folder, "eval", "x", EMBREG_DEVICE="gpu")
        assert (done.returncode, done.stdout) == (2, "")
        assert "unknown $EMBREG_DEVICE 'gpu'" in done.stderr

    @pytest.mark.skipif(CUDA, reason="there is a CUDA device")
    def test_cuda_where_there_is_none(self, folder):
        done = embreg(folder, "drift", "x@1", "x@1", "--device", "cuda")
        assert done.returncode == 2
        assert (
            done.stderr == "embreg: torch finds no CUDA device here ('auto' takes one where there is one)\n"
        )
