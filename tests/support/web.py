"""A web server of a test's own: with ranges and ETags, and with what goes wrong with servers on demand."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Web:
    """What a server offers, and how it behaves.

    Attributes
    ----------
    faults
        What the next requests meet, one each: ``cut`` (the connection breaks after a half of what is due), ``long`` and
        ``short`` (a length that is not the body's), ``stall`` (nothing comes until the server is stopped), ``changed``
        (as ``cut``, and the file is another afterwards), ``none``, or a status.
    seen
        Method, path, and range of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    tags: bool = True
    heads: bool = True
    authorization: str = ""
    faults: deque[str] = field(default_factory=deque)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where the files are."""
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        web, path = self.web, unquote(urlsplit(self.path).path)
        web.seen.append((self.command, self.path, self.headers.get("Range", "")))
        fault = web.faults.popleft() if web.faults else "none"
        if fault == "stall":
            web.over.wait(60)
            self.close_connection = True
        elif fault.isdecimal():
            self._bare(int(fault), {"Retry-After": "0"})
        elif not body and not web.heads:
            self._bare(405, {})
        elif web.authorization and self.headers.get("Authorization") != web.authorization:
            self._bare(401, {})
        elif path in web.redirects:
            self._bare(302, {"Location": web.redirects[path]})
        elif path in web.files:
            self._file(path, fault, body=body)
        elif any(name.startswith(path.rstrip("/") + "/") for name in web.files):
            if path.endswith("/"):
                self._bare(200, {}, b"an index")
            else:
                self._bare(301, {"Location": f"{path}/"})
        else:
            self._bare(404, {})

    def _bare(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _file(self, path: str, fault: str, *, body: bool) -> None:
        content = whole = self.web.files[path]
        tag = f'"{sha256(whole).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked and self.web.tags and self.headers.get("If-Range", tag) == tag else 0
        content = whole[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
        if self.web.tags:
            self.send_header("ETag", tag)
        claimed = len(content) + {"long": 10, "short": -10}.get(fault, 0)
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if fault in ("cut", "changed") else content)
        if fault == "changed":
            self.web.files[path] = whole[::-1]
        self.close_connection = fault != "none"


@contextmanager
def running_web() -> Iterator[Web]:
    """Give a server that runs, and offers nothing yet."""
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield web
    finally:
        web.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
