"""How lines get to a sink, and how it is known that it has them."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from nightmill.errors import NightmillError, ServiceError
from nightmill.model.logs import LogSink
from nightmill.model.secrets import masked

SECONDS: Final = 30.0
"""A sink has so long to take a connection, and to say that it has read all of a batch."""
SETTLE_SECONDS: Final = 1.0
"""So long a receiver goes on living after it has read a batch, or that is sent again."""
STREAM_BYTES: Final = 8 << 20
POST_BYTES: Final = 1 << 20
"""The most of a batch, by connection and by request."""
UNFIT: Final = (400, 413, 415, 422)
"""Answers of HTTP that say that the lines are at fault: no other time is any better."""


class SinkAway(ServiceError):
    """A sink cannot be reached, or does not say that it has what was sent: it is sent again."""


class LinesRefused(NightmillError):
    """A sink will never take some lines.

    Parameters
    ----------
    lines
        Those; it has the others.
    """

    def __init__(self, message: str, lines: bytes) -> None:
        super().__init__(message)
        self.lines = lines


class Sender(Protocol):
    """Sends batches of lines to one sink."""

    most_bytes: int
    """The most of one batch."""

    def send(self, batch: bytes) -> None:
        """Send whole lines; when this returns, the sink has them.

        Raises
        ------
        SinkAway
            Where that is not known: it may have none, some or all of them.
        LinesRefused
            Where it will not take some of them, and has the others.
        """

    def close(self) -> None:
        """End what is open."""


def sender_of(sink: LogSink) -> Sender:
    """Return what sends to a sink; nothing is opened yet."""
    return PostSender(sink) if sink.url.startswith("http") else StreamSender(sink)


class StreamSender:
    """Sends lines through TCP, in the clear or in TLS.

    TCP tells what a receiver's kernel has, and not what its program has read. So each batch has a connection, whose end
    is closed on this side: a receiver closes the other once it has read everything. One that is killed closes it as
    well. So another connection to it is open by then, which ends with its process: the batch counts where that one
    lives for a while longer, and it becomes the connection of the next batch.
    """

    most_bytes = STREAM_BYTES

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self._next: socket.socket | None = None

    def send(self, batch: bytes) -> None:  # noqa: D102 - of the port
        connection = None
        try:
            connection = self._taken() or self._connected()
            self._next = self._connected()
            connection.sendall(batch)
            _close_own_end(connection)
            while connection.recv(4096):
                pass
            if not _lives_on(self._next, SETTLE_SECONDS):
                raise OSError("it ended when it had read what was sent")
        except OSError as error:
            self.close()
            raise SinkAway(f"{masked(self._sink.url)}: {_why(error)}") from error
        finally:
            if connection is not None:
                connection.close()

    def close(self) -> None:  # noqa: D102 - of the port
        if self._next is not None:
            self._next.close()
            self._next = None

    def _taken(self) -> socket.socket | None:
        """Return the connection that is open, where it still is."""
        connection, self._next = self._next, None
        if connection is not None and not _lives_on(connection, 0.0):
            connection.close()
            return None
        return connection

    def _connected(self) -> socket.socket:
        url = urlsplit(self._sink.url)
        host = url.hostname or ""
        connection = socket.create_connection((host, url.port or 0), SECONDS)
        if url.scheme != "tls":
            return connection
        try:
            return _trusting(self._sink).wrap_socket(connection, server_hostname=host)
        except OSError:
            connection.close()
            raise


def _trusting(sink: LogSink) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=sink.ca or None)


def _lives_on(connection: socket.socket, seconds: float) -> bool:
    """Say whether a connection stays open for so long; what the other end says is passed over."""
    until = time.monotonic() + seconds
    connection.settimeout(SECONDS)
    while True:
        ready, _, _ = select.select([connection], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return True
        try:
            if not connection.recv(4096):
                return False
        except OSError:
            return False


def _close_own_end(connection: socket.socket) -> None:
    """Tell the other end that nothing more comes, and go on listening to it."""
    if isinstance(connection, ssl.SSLSocket):
        connection.setblocking(False)
        with suppress(ssl.SSLError):  # the word is said, and its answer is not waited for
            connection.unwrap()
        connection.settimeout(SECONDS)
    connection.shutdown(socket.SHUT_WR)


class _NoRedirect(HTTPRedirectHandler):
    """Takes a redirect for what it is here: a sink that is elsewhere; a POST that became a GET would be lost."""

    def redirect_request(self, *_: Any) -> None:
        return None


class PostSender:
    """Sends lines by POST, a batch a request: an answer of 2xx says that the sink has them."""

    most_bytes = POST_BYTES

    def __init__(self, sink: LogSink) -> None:
        url = urlsplit(sink.url)
        place = url.hostname or ""
        place = f"[{place}]" if ":" in place else place
        self._url = url._replace(netloc=f"{place}:{url.port}" if url.port else place).geturl()
        self._told = masked(sink.url)
        self._headers = {"Content-Type": "application/x-ndjson", **sink.headers}
        if url.username is not None:
            login = f"{unquote(url.username)}:{unquote(url.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        handlers: list[Any] = [_NoRedirect()]
        if url.scheme == "https":
            handlers.append(HTTPSHandler(context=_trusting(sink)))
        self._opener = build_opener(*handlers)

    def send(self, batch: bytes) -> None:  # noqa: D102 - of the port
        request = Request(self._url, batch, self._headers)  # noqa: S310 - the model takes http and https alone
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                answer.read()
        except HTTPError as error:
            with error:
                why = f"{self._told}: it answers {error.code} {error.reason}"
            if error.code not in UNFIT:
                raise SinkAway(why) from error
            half = batch.find(b"\n", len(batch) // 2) + 1
            if error.code != http.client.REQUEST_ENTITY_TOO_LARGE or half == len(batch):
                raise LinesRefused(why, batch) from error
            self._send_each([batch[:half], batch[half:]])
        except (OSError, URLError, http.client.HTTPException) as error:
            raise SinkAway(f"{self._told}: {_why(error)}") from error

    def _send_each(self, batches: list[bytes]) -> None:
        refused = []
        for batch in batches:
            try:
                self.send(batch)
            except LinesRefused as error:
                refused.append(error)
        if refused:
            raise LinesRefused(refused[0].message, b"".join(error.lines for error in refused))

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, OSError):
        error = reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
