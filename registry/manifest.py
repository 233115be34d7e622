"""The manifest of a version: which parts, in which order, in which space. Its sha256 is the digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .errors import CorruptBlob
from .types import Space

FORMAT = 1


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry:
    """One part in a manifest: sha256 of its file, its rows, its size in bytes."""

    digest: str
    rows: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a version is made of.

    Attributes:
        storage: ``arrow`` or ``parquet``.
        content: the set hash over (id, fingerprint), 32 hex digits.
        attributes: name and Arrow type of each further column.
        probes: sha256 of the probes (``probes.py``); None where the version has none.
    """

    space: Space
    storage: str
    parts: tuple[PartEntry, ...]
    content: str
    attributes: Mapping[str, str]
    probes: str | None = None

    @property
    def rows(self) -> int:
        """Rows over all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes over all parts."""
        return sum(part.nbytes for part in self.parts)

    @property
    def content_digest(self) -> str:
        """sha256 over the set of (id, vector bytes), the width and the dtype, 64 hex digits."""
        import hashlib

        identity = {"content": self.content, "dim": self.space.dim, "dtype": self.space.dtype,
                    "rows": self.rows}  # fmt: skip
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        space = self.space.to_dict()
        # What came later is left out where it says nothing: manifests from before stay what they were.
        late = {} if self.probes is None else {"probes": self.probes}
        if self.space.transform is None:
            del space["transform"]
        return canonical_json(
            late
            | {
                "format": FORMAT,
                "space": space,
                "storage": self.storage,
                "content": self.content,
                "attributes": [[name, kind] for name, kind in self.attributes.items()],
                "parts": [[p.digest, p.rows, p.nbytes] for p in self.parts],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what ``to_bytes`` wrote.

        Raises:
            CorruptBlob: a manifest of a later format.
        """
        values = json.loads(data)
        if values.pop("format") != FORMAT:
            raise CorruptBlob("the manifest has a later format", hint="upgrade embreg")
        parts = tuple(PartEntry(digest=d, rows=r, nbytes=b) for d, r, b in values.pop("parts"))
        attributes = dict(values.pop("attributes"))
        space = Space.from_dict(values.pop("space"))
        return cls(parts=parts, space=space, attributes=attributes, **values)
