"""Listening: on this machine only, unless another address is asked for and everybody needs a token."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...registry.errors import UsageError, printable

if TYPE_CHECKING:
    from ..config import Config

#: Ids of some kilobytes, three of them, in percent signs.
_LONGEST_REQUEST = 256 << 10
#: What may stand in an address and in a cookie as it is.
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,200}")
#: Seconds that are given to answers under way when it ends.
_PATIENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where it listens; ``url`` holds the token where there is one."""

    url: str
    host: str
    port: int
    token: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def serve(
    root: str,
    *,
    host: str,
    port: int,
    token: str | None = None,
    config: Config | None = None,
    listening: Callable[[Address], None],
) -> None:
    """Serve the pages of the registry at ``root`` until it is interrupted.

    Args:
        root: of the registry.
        host: to listen on; another than this machine's own loopback needs a token.
        port: to listen on; 0 for any that is free.
        token: that every request must know; made where one is needed and none is given.
        config: whose gates are drawn into histories.
        listening: told the address once it is open.

    Raises:
        UsageError: what serving needs is not installed, the address cannot be had, or no token looks so.
        RegistryNotFound: there is no registry.
    """
    from ...registry.registry import Registry

    _require_extra()
    from .app import app
    from .guard import Door, is_loopback

    Registry.open(root).close()
    if token is not None and not _TOKEN.fullmatch(token):
        raise UsageError("--token: letters, digits and '-._~', at least 8 of them", hint="or leave it out")
    token = token or (None if is_loopback(host) else secrets.token_urlsafe(24))
    with _bound(host, port) as listener:
        taken = listener.getsockname()[1]
        address = Address(url=_url(host, taken, token), host=host, port=taken, token=token)
        door = Door(host=host, token=token or "")
        checks = config.gates if config else ()
        _run(app(root, door, checks=checks), listener, lambda: listening(address))


def show(url: str) -> None:
    """Open a browser, which may take its time."""
    import webbrowser
    from threading import Thread

    Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _require_extra() -> None:
    for name in ("starlette", "uvicorn"):
        try:
            import_module(name)
        except ImportError as exc:
            hint = "pip install 'embreg[ui]'"
            raise UsageError(f"'embreg ui' needs {name}, which is not installed", hint=hint) from exc


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError, UnicodeError) as exc:
        where = f"{printable(host)}:{port}"
        if getattr(exc, "errno", 0) == errno.EADDRINUSE:
            raise UsageError(f"{where} is taken", hint="--port 0 takes a free port") from exc
        told = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise UsageError(f"cannot listen on {where}: {told}", hint="--host and --port name another") from exc


def _url(host: str, port: int, token: str | None) -> str:
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104  not bound here
    name = f"[{shown}]" if ":" in shown else shown
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _run(application: Any, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C, which is how it is meant to end."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

    config = uvicorn.Config(
        application, http="h11", ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False,
        log_level="error", proxy_headers=False, server_header=False, timeout_graceful_shutdown=_PATIENCE,
        h11_max_incomplete_event_size=_LONGEST_REQUEST,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])
