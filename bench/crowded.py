"""A registry with a long past: many versions, events, aliases and moves, written without any vectors."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from embreg import Space, connect
from embreg.registry.database import Database
from embreg.registry.orm import AliasMoveRow, AliasRow, EmbeddingRow, EventRow, VersionBlobRow, VersionRow

_EPOCH = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
_STATISTICS = {"norm_mean": 1.0, "norm_std": 0.0, "norm_min": 1.0, "norm_max": 1.0,
               "zero_rows": 0, "dropped_rows": 0}  # fmt: skip


def crowd(root: Path, *, embeddings: int = 40, versions: int = 10_000, events: int = 100_000) -> None:
    """Make a registry of so many versions of so many embeddings, and so many events; no blobs."""
    connect(root, create=True).close()
    names = [f"embedding-{i:03d}" for i in range(embeddings)]
    each = versions // embeddings
    database = Database(root / "embreg.db")
    with database.write() as session:
        session.execute(
            insert(EmbeddingRow),
            [{"id": i, "name": name, "created_at": _EPOCH} for i, name in enumerate(names, 1)],
        )
        for i in range(1, embeddings + 1):
            _versions(session, i, each)
        session.execute(delete(EventRow))  # of its making
        _events(session, names, each, events)
    database.close()


def _versions(session: Session, embedding: int, count: int) -> None:
    space = Space(dim=384, dtype="float32", model="encoder-v1", normalised=True).to_dict()
    first = (embedding - 1) * count + 1
    rows = [
        {
            "id": first + n,
            "embedding_id": embedding,
            "number": n + 1,
            "digest": hashlib.sha256(f"{embedding}.{n}".encode()).hexdigest(),
            "content_digest": hashlib.sha256(f"content {embedding}.{n}".encode()).hexdigest(),
            "rows": 1_000_000 + n,
            "nbytes": 1_600_000_000 + n,
            "space": space,
            "statistics": _STATISTICS,
            "message": f"nightly run {n}",
            "source": f"/data/nightly/{embedding}/{n}.npy",
            "created_at": _EPOCH + timedelta(hours=n),
            "created_by": "trainer@host",
        }
        for n in range(count)
    ]
    session.execute(insert(VersionRow), rows)
    session.execute(
        insert(VersionBlobRow), [{"version_id": row["id"], "digest": row["digest"]} for row in rows]
    )
    newest = rows[-1]["id"]
    session.execute(
        insert(AliasRow),
        [{"embedding_id": embedding, "name": a, "version_id": newest} for a in ("candidate", "production")],
    )
    session.execute(
        insert(AliasMoveRow),
        [
            {"embedding_id": embedding, "name": "production", "from_id": row["id"] - 1 if n else None,
             "to_id": row["id"], "at": row["created_at"], "actor": "trainer@host", "reason": ""}
            for n, row in enumerate(rows)
        ],
    )  # fmt: skip


def _events(session: Session, names: list[str], each: int, count: int) -> None:
    rows = []
    for i in range(count):
        name, number = names[i % len(names)], i // len(names) % each + 1
        registered = i % 10 == 0
        rows.append(
            {
                "at": _EPOCH + timedelta(minutes=i),
                "actor": "trainer@host",
                "action": "version.registered" if registered else "alias.moved",
                "subject": f"{name}@{number}" if registered else f"{name}@production",
                "embedding": name,
                "detail": {"rows": 1_000_000, "message": "nightly"} if registered else {"new": number},
                "command": f"embreg register {name} /data/nightly/{i}.npy",
            }
        )
    session.execute(insert(EventRow), rows)
