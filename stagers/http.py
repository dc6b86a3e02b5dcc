"""A store that a web server offers, to be read: ``https://host/folder``."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote, urlsplit

import httpx

from nightmill.errors import ConfigError, StoreDenied, StoredFileMissing, StoreError
from nightmill.model.secrets import masked
from nightmill.model.store import Store
from stagers.common import Hash, NewFile, Patience, collision, is_inside, missing, outside

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
"""How long a server may be silent."""
_LONGEST_SECONDS: Final = 30.0
"""How long a server may ask one to wait before the next try."""
_GONE: Final = (404, 410)
_DENIED: Final = (401, 403, 407)
_BUSY: Final = (408, 425, 429, 500, 502, 503, 504)
_NO_HEAD: Final = (405, 501)
_AS_STORED: Final = {"Accept-Encoding": "identity"}
"""A file comes as it is stored, not packed for the way."""


class _Again(Exception):
    """A request failed in a way in which the next may not."""

    def __init__(self, why: str, least_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.least_seconds = least_seconds


class HttpStager:
    """Reads files that a web server offers; see :class:`nightmill.model.ports.Stager` for what it promises.

    Nothing is ever written there: what writes raises StoreError. A copy that was interrupted goes on where it ended,
    if the server has a strong ETag for the file, so that it can say that it is the same still; else it begins again.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        parts = urlsplit(store.url)
        if not parts.hostname:
            raise ConfigError(
                f"store {store.name!r} has the URL {masked(store.url)!r}, which names no host",
                remedy="write https://HOST/FOLDER",
            )
        self._parts = parts
        self._clients: dict[int, httpx.Client] = {}
        """By process: a connection belongs to the one that made it."""

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet; a copy that was interrupted goes on."""
        url = self._url(path)
        with NewFile(target) as file:
            return self._read(path, url, file)

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits."""
        read = Hash()
        self._read(path, self._url(path), read)
        return read.digest()

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        url, patience, method = self._url(path), Patience(), "HEAD"
        while True:
            try:
                with self._asked(method, url, "look at", path) as response:
                    length = response.headers.get("Content-Length", "")
                    if method == "HEAD" and (response.status_code in _NO_HEAD or not length.isdecimal()):
                        method = "GET"
                        continue
                    self._must_be_good(response, "look at", path)
                    if not length.isdecimal():
                        raise StoreError(f"cannot look at {self._named(path)}: its server does not tell its size")
                    return int(length)
            except StoredFileMissing:
                return None
            except _Again as again:
                self._wait(patience, again, "look at", path)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Raise StoreError: a web server has no list that holds for all of them."""
        if prefix:
            self._url(prefix)
        raise StoreError(
            f"cannot list store {self.store.name!r} ({self._shown()}): HTTP has no lists of files",
            remedy="what the catalogue has of it is shown by 'nightmill find'",
        )

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield nothing: no file is ever uploaded."""
        return iter(())

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return None: no file is ever uploaded."""
        self._url(path)
        return None

    def discard(self, path: str, *, attempt: str) -> None:
        """Do nothing: no file is ever uploaded."""
        self._url(path)

    def upload(self, source: Path, path: str, *, attempt: str) -> None:
        """Raise NameCollision where the file is there already, else StoreError."""
        self._url(path)
        with source.open("rb"):
            self._refuse("write", path)

    def reveal(self, path: str, *, attempt: str) -> None:
        """Raise NameCollision where the file is there already, else StoreError."""
        self._refuse("publish", path)

    def settle(self, paths: Iterable[str]) -> None:
        """Raise StoreError for a file that is not there; how durable the others are is up to the server."""
        for path in paths:
            if self.size(path) is None:
                raise self._read_only("settle", path)

    def remove(self, path: str) -> None:
        """Raise StoreError."""
        self._url(path)
        raise self._read_only("remove", path)

    # ------------------------------------------------------------------------------------------ requests

    def _read(self, path: str, url: str, taker: NewFile | Hash) -> int:
        """Read a file from its beginning to its end, by as many requests as it takes, and return its size in bytes."""
        patience, offset, tag = Patience(), 0, ""
        while True:
            headers = {"Range": f"bytes={offset}-", "If-Range": tag} if offset and tag else {}
            try:
                with self._asked("GET", url, "read", path, headers) as response:
                    if not (headers and _goes_on(response, offset, tag)):
                        if headers and response.status_code in (206, 416):
                            offset, tag = 0, ""  # the file is another now: from its beginning
                            raise _Again("it was changed while it was read")
                        self._must_be_good(response, "read", path)
                        taker.restart()
                        offset, tag = 0, _strong_tag(response)
                    for data in response.iter_raw():
                        taker.write(data)
                        offset += len(data)
                        patience.reached(offset)
                    return offset
            except _Again as again:
                self._wait(patience, again, "read", path)

    @contextmanager
    def _asked(
        self, method: str, url: str, doing: str, path: str, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """Give the answer to a request, of which nothing but the head was read.

        Raises
        ------
        _Again
            Where none comes, or not all of it.
        StoreError
            Where it leads from https to http, or nowhere.
        """
        try:
            with self._client().stream(method, url, headers=_AS_STORED | (headers or {})) as response:
                if response.status_code in _BUSY:
                    raise _Again(f"{response.status_code} {response.reason_phrase}", _asked_to_wait(response))
                yield response
        except httpx.TooManyRedirects as error:
            raise StoreError(f"cannot {doing} {self._named(path)}: it is redirected without end") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise StoreError(f"cannot {doing} {self._named(path)}: {masked(str(error))}") from error
        except httpx.RequestError as error:
            why = "it does not answer" if isinstance(error, httpx.TimeoutException) else masked(str(error))
            raise _Again(why or type(error).__name__) from error

    def _client(self) -> httpx.Client:
        process = os.getpid()
        if process not in self._clients:
            hooks = {"response": [self._must_stay_safe]}
            client = httpx.Client(timeout=_TIMEOUT, follow_redirects=True, max_redirects=10, event_hooks=hooks)
            if self._clients.setdefault(process, client) is client:
                weakref.finalize(self, _close, client, process)
        return self._clients[process]

    def _must_stay_safe(self, response: httpx.Response) -> None:
        """Refuse a redirect from https to anything else, before it is followed."""
        to = response.headers.get("Location")
        if response.has_redirect_location and response.url.scheme == "https":
            target = response.url.join(to)
            if target.scheme != "https":
                raise StoreError(
                    f"store {self.store.name!r} ({self._shown()}) redirects from https to {target.scheme}, which"
                    " anybody on the way can read and change",
                    remedy="ask who runs that server",
                )

    def _must_be_good(self, response: httpx.Response, doing: str, path: str) -> None:
        status = response.status_code
        # A server sends whoever asks for a folder to its index.
        if status in _GONE or (status == 200 and response.url.path.endswith("/")):
            raise missing(doing, self._named(path))
        told = f"cannot {doing} {self._named(path)}: {status} {response.reason_phrase}"
        if status in _DENIED:
            raise StoreDenied(told, remedy="see that the credential in the store's URL lets one read there")
        if status != 200:
            raise StoreError(told)

    def _wait(self, patience: Patience, again: _Again, doing: str, path: str) -> None:
        if not patience.wait(again.least_seconds):
            raise StoreError(
                f"cannot {doing} {self._named(path)}: {again}", remedy="see whether that server can be reached"
            ) from again

    # --------------------------------------------------------------------------------- names and refusals

    def _url(self, path: str) -> str:
        if not is_inside(path):
            raise outside(path, self.store)
        return self._parts._replace(path=f"{self._parts.path.rstrip('/')}/{quote(path)}", fragment="").geturl()

    def _refuse(self, doing: str, path: str) -> NoReturn:
        if self.size(path) is not None:
            raise collision(path, self.store)
        raise self._read_only(doing, path)

    def _read_only(self, doing: str, path: str) -> StoreError:
        return StoreError(
            f"cannot {doing} {self._named(path)}: a store over HTTP is read-only",
            remedy="let outputs go to another store",
        )

    def _shown(self) -> str:
        return masked(self._parts._replace(query="").geturl())

    def _named(self, path: str) -> str:
        return f"{path!r} in store {self.store.name!r} ({self._shown()})"


def _close(client: httpx.Client, process: int) -> None:
    if os.getpid() == process:
        client.close()


def _goes_on(response: httpx.Response, offset: int, tag: str) -> bool:
    """Whether an answer is the rest of the very file that was begun."""
    begins = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    return response.status_code == 206 and begins and response.headers.get("ETag", tag) == tag


def _strong_tag(response: httpx.Response) -> str:
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""


def _asked_to_wait(response: httpx.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_SECONDS) if asked.isdecimal() else 0.0
