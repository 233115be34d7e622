"""Addresses and what answers them.

Every request opens the registry for itself: what was registered a moment ago is there, and no connection is
used by two threads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...registry.errors import EmbregError, InputError, NotFound, UsageError
from . import asked, pages, search
from .guard import Door, Guard
from .shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...registry.registry import Registry
    from ..config import Check

#: Files whose names change with them: Vega is sent once.
_NAMED_BY_CONTENT = re.compile(r"assets/[\w-]+-[0-9a-f]{12}\.\w+")
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def app(root: str, door: Door, *, checks: Sequence[Check] = ()) -> Guard:
    """Return the pages of the registry at ``root``, for those whom the door lets in."""
    shelf = Shelf(links=pages.LINKS, checks=checks)

    def of(answer: Callable[[Registry, Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            from ...registry.registry import Registry

            with Registry.open(root) as registry:
                return answer(registry, request)

        return endpoint

    def page(registry: Registry, request: Request) -> Response:
        path = request.path_params["path"] or "index.html"
        found = shelf.page(registry, path)
        headers = _FOREVER if _NAMED_BY_CONTENT.fullmatch(path) else {}
        return Response(found.content, media_type=found.media_type, headers=headers)

    served = Starlette(
        routes=[
            Route(pages.NEIGHBORS, of(_neighbors)),
            Route(pages.ANALOGY, of(_analogy)),
            Route(pages.IDS, of(_ids)),
            Route(pages.SCRIPT, lambda _: pages.script()),
            Route("/{path:path}", of(page)),
        ],
        exception_handlers={EmbregError: _failed, HTTPException: _refused, 500: _unforeseen},
    )
    return Guard(served, door, pages.refusal)


def _neighbors(registry: Registry, request: Request) -> Response:
    return pages.neighbors(registry, asked.Asked.of(request.query_params, ("id",)))


def _analogy(registry: Registry, request: Request) -> Response:
    return pages.analogy(registry, asked.Asked.of(request.query_params, ("a", "b", "c")))


def _ids(registry: Registry, request: Request) -> Response:
    """Suggest ids that begin like what is typed."""
    prefix = asked.Asked.of(request.query_params, ("prefix",))
    table = registry.table(prefix.ref)
    return JSONResponse({"ids": search.beginning(table, prefix.texts["prefix"])})


def _failed(_: Request, exc: Any) -> Response:
    return pages.refusal(status(exc), exc.message, exc.hint)


def _refused(_: Request, exc: Any) -> Response:
    return pages.refusal(exc.status_code, str(exc.detail), "")


def _unforeseen(_: Request, exc: Exception) -> Response:
    return pages.refusal(500, f"internal error: {type(exc).__name__}", "a bug: please report it")


def status(exc: EmbregError) -> int:
    """Return the HTTP status of an error: what is not there, what cannot be asked, what failed."""
    if isinstance(exc, NotFound):
        return 404
    return 400 if isinstance(exc, UsageError | InputError) else 500
