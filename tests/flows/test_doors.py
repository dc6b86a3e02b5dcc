"""What stands before the server of a site, before an application that takes everything."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from flows.hosting.access import ticket
from flows.hosting.doors import LOOPBACK, POLICY, Doors

SECRET = "nightmill:s3cret"


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("in")(scope, receive, send)


def ask(method: str, path: str, *hosts: str, secret: str = SECRET, **request: Any) -> httpx.Response:
    """Ask it by the address that it has, unless the request says otherwise."""
    doors = Doors(everything, [*LOOPBACK, *hosts], secret)

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=doors)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4200") as client:
            return await client.request(method, path, **request)

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:4200", None, 200),
        ("localhost:9999", None, 200),  # the end of a tunnel
        ("LOCALHOST:9999", "http://localhost:9999", 200),
        ("[::1]:4200", "http://[::1]:4200", 200),
        ("mill.example.org", "https://mill.example.org", 200),
        ("127.0.0.1:4200", "https://mill.example.org", 200),  # a proxy that calls it by its address
        ("evil.example", None, 400),
        ("localhost.evil.example", None, 400),
        ("127.0.0.1.evil.example:4200", None, 400),
        ("evil.example@127.0.0.1", None, 400),
        ("", None, 400),
        ("[", None, 400),
        ("127.0.0.1:4200", "http://evil.example", 403),
        ("127.0.0.1:4200", "http://127.0.0.1:8000", 403),  # another server of this host
        ("127.0.0.1:4200", "https://mill.example.org:8443", 403),
        ("127.0.0.1:4200", "null", 403),
        ("evil.example", "http://evil.example", 400),  # a name that is made to point here
    ],
)
def test_only_its_own_names_and_pages_come_through(host: str, origin: str | None, status: int) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = ask("GET", "/api/health", "mill.example.org", headers=headers)
    assert (answer.status_code, answer.text == "in") == (status, status == 200)
    assert answer.headers["Content-Security-Policy"] == POLICY["Content-Security-Policy"]


def test_a_ticket_is_exchanged_for_what_the_ui_keeps() -> None:
    answer = ask("POST", "/sign-in", content=ticket(SECRET))
    assert base64.b64decode(answer.text).decode() == SECRET
    assert answer.headers["Cache-Control"] == "no-store"
    assert ask("POST", "/sign-in", content=ticket("nightmill:other")).status_code == 403
    foreign = ask("POST", "/sign-in", content=ticket(SECRET), headers={"Origin": "http://evil.example"})
    assert (foreign.status_code, SECRET in foreign.text) == (403, False)


def test_the_page_that_signs_in_runs_its_own_script_alone() -> None:
    page = ask("GET", "/sign-in")
    assert SECRET not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")


def test_where_everyone_is_let_in_no_ticket_is_good() -> None:
    assert ask("POST", "/sign-in", secret="", content=ticket("")).status_code == 403
