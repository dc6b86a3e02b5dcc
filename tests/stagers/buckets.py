"""What the tests of object storage share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore

from nightmill.model.store import Store
from stagers.objects import PROBE, ObjectStager

LARGE = os.urandom(1 << 20) * 20
"""Three parts."""


def opened(url: str) -> ObjectStager:
    return ObjectStager(Store(name="backbone", url=url))


def put(stager: ObjectStager, key: str, data: bytes) -> None:
    obstore.put(stager.endpoint.client, key, data)


def keys(stager: ObjectStager) -> list[str]:
    batches = obstore.list(stager.endpoint.client)
    return sorted(found["path"] for batch in batches for found in batch if found["path"] != PROBE)


class Careless(BaseHTTPRequestHandler):
    """Takes every object, whatever stands there, and has none of them afterwards."""

    protocol_version = "HTTP/1.1"
    status = 200
    body = b""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Give the place of a server that gives the answers which the server of the tests does not."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
