"""JSON objects that come beside vectors, small enough to be read whole."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import printable
from .base import COPY_AGAIN, bad, open_bytes, reading

_MAX_BYTES = 256 << 20


def document(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds; of a key that stands twice neither value is right.

    Raises:
        InputError: it is no regular file, is no JSON object, or is over 256 MiB.
    """
    with reading(path):
        if path.exists() and not path.is_file():
            raise bad(path, "", "not a regular file", "name one file")
        with open_bytes(path) as file:
            text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise bad(path, "", f"longer than {_MAX_BYTES >> 20} MiB", "is this the file you meant?")
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise bad(path, "", f"no valid JSON: {printable(str(exc))}", COPY_AGAIN) from exc
    if not isinstance(value, dict):
        raise bad(path, "", "not a JSON object", "it begins with {")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key '{printable(twice, 60)}' stands twice")
    return found
