"""Everything that embreg raises on purpose.

::

    EmbregError                       exit 3
    ├── UsageError (ValueError)       exit 2   the words of a call are wrong
    │   ├── InvalidRef                         not a NAME, NAME@3, NAME@ALIAS or NAME@sha256:HEX
    │   ├── UnknownChoice                      no such suite, metric, format, factory …
    │   └── ConfigError                        embreg.toml is broken: file and line named
    ├── NotFound (LookupError)                 a well-formed name that names nothing here
    │   ├── RegistryNotFound (FileNotFoundError)
    │   ├── EmbeddingNotFound · VersionNotFound · AliasNotFound
    │   └── IndexNotFound · DatasetNotFound · ItemNotFound
    ├── InputError (ValueError)                a source file that cannot be what it claims
    ├── Conflict                               somebody else moved the same thing first
    ├── SchemaMismatch                         the database is newer or older than this package
    ├── CorruptBlob                            stored bytes are not the bytes that were stored
    ├── StorageError (OSError)                 disk full, read-only, unreachable
    ├── IndexFailed                            FAISS refused to build, load or change an index
    └── Refused                       exit 1   a check said no (promotion without a passing verdict)

Each carries a ``hint``: what to do next. Leaves also inherit the builtin that a Python user would catch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def printable(text: str, limit: int = 200) -> str:
    r"""Return ``text`` safe to print on one line of a terminal.

    Control characters (ANSI escapes, newlines, bidirectional marks) become ``\xNN`` or ``\uNNNN``
    escapes, and text over ``limit`` characters is cut with an ellipsis.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():  # as nearly all are, and there are many
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(wrong: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return ``did you mean 'x'?`` for the closest of ``known``, else ``otherwise``."""
    import difflib

    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"did you mean '{printable(close[0])}'?" if close else otherwise


class EmbregError(Exception):
    """The root of the tree: one line that says what and which, and a hint that says what next.

    Attributes:
        message: what happened, on one line.
        hint: what to do next; may be empty.
        exit_code: what the command line exits with.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(EmbregError, ValueError):
    """The call itself is wrong, whatever the registry holds."""

    exit_code = 2


class InvalidRef(UsageError):
    """A name or reference that does not follow the grammar."""


class UnknownChoice(UsageError):
    """A word outside a closed list: a suite, a metric, a format, an index factory."""

    def __init__(self, what: str, wrong: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = did_you_mean(wrong, known, f"one of: {', '.join(known)}" if known else "")
        super().__init__(f"unknown {what} '{printable(wrong)}'", hint=hint)


class ConfigError(UsageError):
    """A configuration file that cannot be used; the message names file and line."""


class NotFound(EmbregError, LookupError):
    """A well-formed name that names nothing in this registry."""


class RegistryNotFound(NotFound, FileNotFoundError):
    """No registry at that place."""


class EmbeddingNotFound(NotFound):
    """No embedding of that name."""


class VersionNotFound(NotFound):
    """The embedding has no such version."""


class AliasNotFound(NotFound):
    """The embedding has no such alias."""


class IndexNotFound(NotFound):
    """No index of that name."""


class DatasetNotFound(NotFound):
    """No dataset of that name."""


class ItemNotFound(NotFound):
    """No row with that id."""


class InputError(EmbregError, ValueError):
    """A source file that cannot be read as what it claims to be.

    The message reads ``FILE: PLACE: what is wrong``.
    """


class Conflict(EmbregError):
    """Somebody else changed the same thing first; nothing was done."""


class SchemaMismatch(EmbregError):
    """The database was written by another version of embreg."""


class CorruptBlob(EmbregError):
    """Stored bytes are missing, or are no longer the bytes that were stored."""


class StorageError(EmbregError, OSError):
    """The disk or object store refused."""


class IndexFailed(EmbregError):
    """FAISS refused to build, load, change or search an index."""


class Refused(EmbregError):
    """A check said no."""

    exit_code = 1
