"""``make soak``: what takes minutes. Not collected by pytest; prints tables, and any finding is fatal.

python tests/soak [--moments 300] [--processes 16] [--each 25] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from crowd import crowd
from forks import Bench
from kills import kills


def main() -> None:
    """Run the kills, then the crowd, each on a registry of its own that is kept if something is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=300, help="kills, over all commands")
    parser.add_argument("--processes", type=int, default=16, help="at the same door")
    parser.add_argument("--each", type=int, default=25, help="registrations of each process")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for part in (
        lambda bench: kills(bench, asked.moments, asked.seed),
        lambda bench: crowd(bench, asked.processes, asked.each),
    ):
        folder = tempfile.mkdtemp(prefix="embreg-soak-")
        part(Bench(Path(folder)))
        os.chdir("/")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
