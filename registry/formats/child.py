"""Libraries that a damaged file can crash, or keep busy forever, read it in a process of their own.

libhdf5 loops without end on some damaged heaps, and FAISS ends the process on some damaged indexes. A script
of this package, which imports nothing of it, opens the file under bounds of memory, time and bytes written,
and sends rows through a pipe: whatever happens there is one error here. Once the file is open a script calls
``signal.alarm(0)``: from then on it may have to wait for its reader.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from ..errors import InputError, printable
from .base import COPY_AGAIN, bad

_BOUNDED = """
import resource, runpy, signal, sys
script, memory, seconds, *words = sys.argv[1:]
bounds = {"RLIMIT_AS": int(memory), "RLIMIT_CPU": int(seconds), "RLIMIT_FSIZE": 1 << 20, "RLIMIT_CORE": 0}
for name, most in bounds.items():
    try:
        resource.setrlimit(getattr(resource, name), (most, most + (name == "RLIMIT_CPU")))
    except (ValueError, OSError):
        pass  # the system knows no such bound, or has a lower one
signal.alarm(10 * int(seconds))
sys.argv = [script, *words]
runpy.run_path(script, run_name="__main__")
"""
_GIB = 1 << 30
#: Of processor time; and one for each MiB of the file, of which the slowest filters unpack some 10 a second.
_SECONDS = 3
_LINE = 16 << 20
_TOLD = 4096


class Child:
    """A running script.

    Attributes:
        output: what it sends.
    """

    def __init__(self, path: Path, library: str, process: subprocess.Popen[bytes], told: IO[bytes]) -> None:
        self._path, self._library, self._process, self._told = path, library, process, told
        self.output = cast(BinaryIO, process.stdout)

    def document(self) -> dict[str, Any]:
        """Return the JSON object of one line.

        Raises:
            InputError: the script failed before.
        """
        line = self.output.readline(_LINE)
        if not line.endswith(b"\n"):
            raise self.error()
        found: dict[str, Any] = json.loads(line)
        return found

    def finish(self) -> None:
        """Check that everything was sent.

        Raises:
            InputError: the script sends more, or failed.
        """
        if self.output.read(1) or self._process.wait():
            raise self.error()

    def error(self) -> InputError:
        """Return why the script ended early."""
        return bad(self._path, "", self._reason(), COPY_AGAIN)

    def _reason(self) -> str:
        self._process.stdout.close()  # type: ignore[union-attr]
        code = self._process.wait()
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return f"truncated or damaged: {self._library} found no end of it, and was stopped"
        if code < 0:
            return f"truncated or damaged: {self._library} crashed on it ({signal.Signals(-code).name})"
        self._told.seek(max(0, self._told.seek(0, os.SEEK_END) - _TOLD))
        last = self._told.read().decode("utf-8", "replace").strip().split("\n")[-1]
        kind, _, what = last.partition(": ")
        if kind == "MemoryError":
            what = "it asks for more memory than such a file can need"
        return f"{self._library} cannot read it: {printable(what or kind or 'it ends early', 300)}"


@contextmanager
def running(path: Path, script: str, *words: str, library: str, memory: int = 2 * _GIB) -> Iterator[Child]:
    """Run a script of this package on a file; it is ended with the block.

    Args:
        path: the file, the first word that the script gets.
        script: file name of the script.
        words: further words.
        library: what reads there, for messages.
        memory: bytes of address space that it may have.
    """
    seconds = _SECONDS + (path.stat().st_size >> 20)
    command = [sys.executable, "-P", "-W", "ignore", "-c", _BOUNDED, str(Path(__file__).with_name(script)),
               str(memory), str(seconds), str(path), *words]  # fmt: skip
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(  # noqa: S603  a script of ours, and words that no shell sees
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=told,
            env=_environment(),
            pipesize=1 << 20,
        ) as process,
    ):
        try:
            yield Child(path, library, process, told)
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    """Return the environment of a script: one thread, no plugins that a user's settings would load."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HDF5_")}
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return kept | one | {"PYTHONPATH": path, "HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "FALSE"}
