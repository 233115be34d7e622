"""A site in a directory: what changed is written, what is no longer there removed, all else left alone.

The manifest says which pages are ours and by which key each was made. Before the first page is written it
is told which will be, without their keys; after the last, with them. So a run that is killed leaves pages
that the next one finds and writes again, and never one that nobody knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...registry.errors import StorageError, UsageError, printable
from ..threads import workers
from .folder import Folder
from .workers import made

if TYPE_CHECKING:
    from ...registry.types import Progress
    from .site import Site

MANIFEST = ".embreg-site.json"
_FORMAT = 1
#: Fewer pages are made sooner than a second process has started.
_MANY = 150
#: More of them would wait for the one that writes, and each takes some hundred MB.
_PROCESSES = 4
#: What a path of ours looks like: nothing else is removed, whatever a manifest says.
_OURS = re.compile(r"(?:[a-z0-9][a-z0-9.-]*/)*[a-z0-9][a-z0-9-]*\.(?:html|js|css)")
#: Path -> the key that a page was made by, empty while it is being written, and its size in bytes.
Pages = dict[str, tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a site.

    Attributes:
        path: the directory.
        pages: how many files the site has.
        written, removed, unchanged: how many of them were, and were taken away.
    """

    path: str
    pages: int
    written: int
    removed: int
    unchanged: int

    def told(self) -> str:
        """Return the same in a line."""
        counts = f"{self.written:,} of {self.pages:,} files written, {self.removed:,} removed"
        return f"{printable(self.path)}: {counts}"


def processes() -> int:
    """Return how many processes this machine has room for."""
    return min(_PROCESSES, workers())


def write_site(
    site: Site,
    path: str | Path,
    *,
    force: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> Written:
    """Bring a directory to what a site is now.

    Args:
        site: fresh.
        path: the directory; made if it is not there.
        force: write into one that holds other files; those whose name a page has are replaced, no other is
            touched.
        processes: how many make pages, where there are many to make; a program that asks for more than one
            must be importable (``if __name__ == "__main__"``).
        progress: told which page is being made.

    Raises:
        UsageError: the directory holds other files.
        StorageError: the disk refused, or a link stands in the way.
    """
    folder = Folder(_made(_apart(path, Path(site.recipe()["root"]))))
    with folder.alone():
        known = _manifest(folder)
        if known is None and folder.names() and not force:
            raise UsageError(
                f"{printable(str(path))} holds other files",
                hint="name an empty directory, or --force: files that are not the site's stay",
            )
        return _brought(site, folder, known or {}, processes, progress)


def _apart(path: str | Path, registry: Path) -> Path:
    """Return a path that is no part of the registry, nor holds it in its own files' place."""
    if not str(path):
        raise UsageError("the directory has no name", hint="name one, such as public")
    meant, kept = Path(path).resolve(), registry.resolve()
    if meant == kept or kept in meant.parents:
        raise UsageError(f"{printable(str(path))} is the registry", hint="name a directory of its own")
    return Path(path)


def _made(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise UsageError(f"{printable(str(path))} is a file", hint="name a directory") from exc
    except OSError as exc:
        raise StorageError(f"cannot make {printable(str(path))}: {exc.strerror}") from exc
    return path.absolute()


def _brought(site: Site, folder: Folder, known: Pages, processes: int, progress: Progress | None) -> Written:
    keys = site.paths()
    due = [path for path, key in keys.items() if known.get(path) != (key, folder.size(path))]
    gone = [path for path in known if path not in keys]
    if due or gone:
        _keep(folder, known | dict.fromkeys(due, ("", 0)))
    kept = {path: (key, known.get(path, ("", 0))[1]) for path, key in keys.items()}
    for done, (path, content) in enumerate(made(site, due, processes if len(due) >= _MANY else 1)):
        if progress is not None:
            progress("pages", done, len(due))
        if content is None:
            # Its version was deleted after the site looked: the next run removes what is there.
            kept[path] = ("", 0)
            continue
        folder.write(path, content)
        kept[path] = (keys[path], len(content))
    removed = sum(folder.remove(path) for path in gone)
    if due or gone:
        _keep(folder, kept)
        folder.tidy({path.rpartition("/")[0] for path in (*keys, MANIFEST)})
    return Written(
        path=str(folder.path),
        pages=len(keys),
        written=len(due),
        removed=removed,
        unchanged=len(keys) - len(due),
    )


def _manifest(folder: Folder) -> Pages | None:
    """Return the pages of the site that is there; None where there is none."""
    if MANIFEST not in folder.names():
        return None
    try:
        told = json.loads(folder.read(MANIFEST) or b"")
        pages = {str(path): (str(key), int(size)) for path, (key, size) in told["pages"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        # Damaged: it is ours, and every page is made.
        return {}
    return {path: entry for path, entry in pages.items() if _OURS.fullmatch(path)}


def _keep(folder: Folder, pages: Mapping[str, tuple[str, int]]) -> None:
    told = {"format": _FORMAT, "embreg": __version__, "pages": {p: list(pages[p]) for p in sorted(pages)}}
    folder.write(MANIFEST, json.dumps(told, indent=0).encode())
