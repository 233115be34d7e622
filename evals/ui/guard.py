"""What stands before every page: who may ask, how, and what a browser may do with the answer.

A page of another site can let a browser send requests to this machine. It must not read the answers, not
even after its own name was pointed at 127.0.0.1 (DNS rebinding): so on the loopback address the name that is
asked for must be one of this machine, and on any other address every request needs the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: Everything a page needs is here, and no page may be shown inside another.
_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Who may ask.

    Attributes:
        host: on which it listens.
        token: that everybody must know; empty where only this machine can ask.
    """

    host: str
    token: str = ""

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this machine; with a token every name will do."""
        name = re.sub(r":\d*$", "", header).strip("[]").lower()
        return bool(self.token) or name in _LOOPBACK or name == self.host.lower()

    def is_token(self, given: str | None) -> bool:
        """Whether what was given is the token, in a time that does not tell how much of it is right."""
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())


class Guard:
    """Answers what may not be asked, and sets the headers of all answers.

    ``refuse`` makes the page that says no: status, message, hint.
    """

    def __init__(self, app: ASGIApp, door: Door, refuse: Callable[[int, str, str], Response]) -> None:
        self.app = app
        self.door = door
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        from starlette.datastructures import MutableHeaders
        from starlette.requests import Request

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self._refusal(Request(scope)) or self.app)(scope, receive, sent)

    def _refusal(self, request: Request) -> Response | None:
        if not self.door.knows_host(request.headers.get("host", "")):
            return self.refuse(421, "this address is not served here", "open the one that was printed")
        if request.method not in METHODS:
            response = self.refuse(405, f"{request.method} changes things, and here is only to be read", "")
            response.headers["Allow"] = ", ".join(METHODS)
            return response
        return self._without_token(request) if self.door.token else None

    def _without_token(self, request: Request) -> Response | None:
        cookie = f"embreg-{request.url.port or 80}"  # cookies are those of a host, whatever the port
        if self.door.is_token(request.cookies.get(cookie)):
            return None
        if not self.door.is_token(request.query_params.get("token")):
            return self.refuse(403, "a token is needed", "open the address that was printed, with ?token=")
        return _welcome(request, cookie, self.door.token)


def _welcome(request: Request, cookie: str, token: str) -> Response:
    """Keep the token as a cookie and go on to the page, whose address is without it.

    A redirection will not do: where the link stood in another site's page, a browser holds back a strict
    cookie until a page of this site goes on.
    """
    query = "&".join(part for part in request.url.query.split("&") if not part.startswith("token="))
    path = request.scope["raw_path"].decode("ascii").lstrip("/\\") + (f"?{query}" if query else "")
    response = Response(status_code=200, headers={"Refresh": f"0; url=/{path}"})
    response.set_cookie(cookie, token, httponly=True, samesite="strict", path="/")
    return response
