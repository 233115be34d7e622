"""Where checks that ``gate init`` proposes go: a new ``embreg.toml``, or the end of the one that is there."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..registry.errors import ConfigError, printable
from .config import NAME, Config, find_config, load_config
from .saving import save

#: How the first line that ``gate init`` writes begins.
MARK = "# Checks of "
_GATES = re.compile(r"\s*\[\[\s*gates\s*\]\]")
_OTHER = re.compile(r"\s*\[(?!\[?\s*gates\b)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A configuration file that checks are written to.

    Attributes:
        config: what it says now; None where it is not there.
        kept: what of it stays, and stands before the checks.
        end: how its lines end.
    """

    path: Path
    config: Config | None
    kept: str = ""
    end: str = "\n"


def place(asked: str | None, *, force: bool = False, written: bool = True) -> Place:
    """Return the file that is asked for, else the nearest upwards, else a new one in the working directory.

    Args:
        asked: a path, where somebody names one.
        force: whether checks that it has may go.
        written: whether it is to be written at all.

    Raises:
        ConfigError: it is there and cannot be used; or it has checks that stay, or that cannot be told from
            what else it says.
    """
    path = Path(asked) if asked else find_config(Path.cwd()) or Path(NAME)
    if not path.exists():
        return Place(path=path, config=None)
    config = load_config(path)
    if not written:
        return Place(path=path, config=config)
    text = path.read_bytes().decode("utf-8")
    kept = _without_checks(path, text.replace("\r\n", "\n"), config, force=force)
    return Place(path=path, config=config, kept=kept, end="\r\n" if "\r\n" in text else "\n")


def put(where: Place, text: str) -> None:
    """Write checks behind what stays of a file.

    Raises:
        StorageError: it cannot be written.
    """
    save(where.path, (where.kept + text).replace("\n", where.end).encode())


def _without_checks(path: Path, text: str, config: Config, *, force: bool) -> str:
    """Return what a file says before its checks, ready for others to follow."""
    lines = text.split("\n")
    if config.gates and not force:
        hint = "--force replaces them, --stdout prints the new ones"
        raise ConfigError(f"{printable(str(path))} has {len(config.gates)} checks", hint=hint)
    first = next((i for i, line in enumerate(lines) if _GATES.match(line) or line.startswith(MARK)), None)
    if first is None and "gates" in tomllib.loads(text.removeprefix("\ufeff")):
        raise ConfigError(f"{printable(str(path))}: its gates are no [[gates]] tables", hint="use --stdout")
    before, after = lines[:first], [] if first is None else lines[first:]
    stray = next((i for i, line in enumerate(after, (first or 0) + 1) if _OTHER.match(line)), None)
    if stray is not None:
        hint = "move it above the first [[gates]], or use --stdout"
        told = f"{printable(str(path))}: line {stray}: a table stands among the [[gates]]"
        raise ConfigError(told, hint=hint)
    told = "\n".join(before).rstrip("\n")
    return f"{told}\n\n" if told else ""
