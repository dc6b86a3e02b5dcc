"""What stands before a site's Prefect server: no foreign host name, no foreign page, nothing that leaves the site.

Prefect itself answers to any name, which lets a web page reach it through a name that is made to point here; and its UI
asks hosts on the internet. Nothing here imports Prefect.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from flows.hosting.access import SIGN_IN_PATH, is_valid

HOSTS_VARIABLE: Final = "NIGHTMILL_SERVER_HOSTS"
"""Environment variable of the server's process: the names by which it may be called, with commas between."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
MOST_BYTES: Final = 100
_HOST: Final = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
POLICY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "; ".join(  # noqa: FLY002 - a directive a line
        (
            "default-src 'self'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer: a browser asks nobody but this server, whatever the UI wants."""


class Doors:
    """An ASGI application that lets through to another what comes by a name of the site's own, and from its own pages.

    Parameters
    ----------
    app
        The server.
    hosts
        Its names, as ``name`` or ``name:port``; an address of IPv6 in brackets.
    secret
        ``user:password`` that it asks for; empty for none.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], secret: str) -> None:
        self._app, self._secret = app, secret
        self._hosts = {host.lower() for host in hosts}
        self._names = {_name(host) for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the server answer."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if scope["type"] == "websocket":
            answer = self._app if refusal is None else WebSocketClose(1008)
            await answer(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in POLICY.items():
                    headers.setdefault(name, value)
            await send(message)

        app = refusal or (self._sign_in if scope["path"] == SIGN_IN_PATH else self._app)
        await app(scope, receive, send_with_policy)

    def _refusal(self, headers: Headers) -> Response | None:
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if _name(host) not in self._names:
            return PlainTextResponse(f"{host!r} is not a name of this server: server.hosts in nightmill.yaml\n", 400)
        if origin and origin.partition("://")[2] not in {host, *self._hosts}:
            return PlainTextResponse(f"{origin!r} is not a page of this server\n", 403)
        return None

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the page that signs in; and to that page, for a valid ticket, what the UI keeps of the secret."""
        request = Request(scope, receive)
        answer: Response
        if request.method != "POST":
            page = resources.files("flows.hosting").joinpath("sign_in.html").read_text(encoding="utf-8")
            answer = HTMLResponse(page, headers={"Content-Security-Policy": _policy_of(page)})
        elif is_valid(await _beginning(request), self._secret):
            answer = PlainTextResponse(base64.b64encode(self._secret.encode()))
        else:
            answer = PlainTextResponse("This link is no longer valid.\n", 403)
        answer.headers["Cache-Control"] = "no-store"
        await answer(scope, receive, send)


async def _beginning(request: Request) -> str:
    """Return the body of a request, of which no more is read than a ticket has."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return ""
    return body.decode("ascii", "replace")


def _name(host: str) -> str:
    """Return a host without its port; nothing for what is none."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


def _policy_of(page: str) -> str:
    """Let a page run the one script that stands in it, and nothing else."""
    script = page.partition('<script type="module">')[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; connect-src 'self'; frame-ancestors 'none'"
