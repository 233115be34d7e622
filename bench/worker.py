"""Rows that belong together, in a process of their own: ``python -m bench.worker NAME FOLDER FILE``.

What they allocate, load and break is gone with it. Rows are written to FILE as soon as they are measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .page import console, to_json
from .rows import ROWS


def main() -> None:
    """Measure what is named, and write it down row by row."""
    name, folder, file = sys.argv[1:]
    with Path(file).open("a", encoding="utf-8") as out:
        for row in ROWS[name](Path(folder)):
            print(console(row), flush=True)
            out.write(json.dumps(to_json(row)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
