"""An object store as obstore sees it: opened from a URL, read in parts, and its errors put into nightmill's words."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, GenericError, PreconditionError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, S3Store

from nightmill.errors import ConfigError, StoreDenied, StoreError, StoreFull, guess
from nightmill.model.secrets import masked
from nightmill.model.store import Store
from stagers.common import missing

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions

PART_BYTES: Final = 8 << 20
"""What is read or written by one request; a smaller object takes one alone."""
MAX_PARTS: Final = 9_000
"""S3 takes 10,000 parts of an object."""
AT_ONCE: Final = 4
"""Parts of one object on their way at a time, each in memory."""
RETRIES: Final = 8
RETRY_SECONDS: Final = 30
"""Nothing is tried again later than this after the first try: a refused connection is told after 10 to 40 s."""
CONNECT_SECONDS: Final = 5
SILENT_SECONDS: Final = 120
"""How long a server may say nothing while it works: one copies gigabytes before it answers."""
REQUEST_SECONDS: Final = 300
"""For the whole of a request, of a part at most."""

_CLIENTS: Final[Mapping[str, Any]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_users: set[int] = set()
"""The process that has obstore's threads, once it was used; a fork of it inherits the number, and not the threads."""
_CODE: Final = re.compile(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")
_STATUS: Final = re.compile(r"^Server returned non-2xx status code: ")
_TRIED: Final = re.compile(r" in (?P<seconds>[\d.]{1,4})[\d.]*s, after (?P<retries>[1-9]\d*) retries")
_FULL: Final = re.compile(r"QuotaExceeded|StorageFull|InsufficientStorage|InsufficientCapacity|: 507 ")
_DENIED: Final = re.compile(r"returned non-2xx status code: 40[13] ")
_EXPIRED: Final = re.compile(r"ExpiredToken|TokenRefreshRequired|RequestExpired")
_NO_KEYS: Final = re.compile(r"/latest/(?:api|meta-data)/|/computeMetadata/|/oauth2/token")
"""Where a client looks last for keys: with what tells a machine of a cloud its role."""
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist")


class Seen(NamedTuple):
    """What a store tells of an object."""

    size_bytes: int
    version: str
    """Another one whenever it was written again."""


class Endpoint:
    """One prefix of one bucket.

    Parameters
    ----------
    store
        Its URL is ``s3://bucket/prefix?option=value``, where options are those of obstore's client, such as
        ``endpoint``, ``region``, ``access_key_id`` and ``secret_access_key``. What is not said there, obstore takes
        from the environment. With ``gs`` and ``az`` the clients of these clouds are used.

    Raises
    ------
    ConfigError
        Where the URL has no bucket, or an option that does not exist.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        parts = urlsplit(store.url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix = unquote(parts.path).strip("/")
        self.place = f"{parts.scheme}://{parts.netloc}" + (f"/{prefix}" if prefix else "")
        if not parts.netloc or "@" in parts.netloc or parts.fragment:
            raise ConfigError(
                f"store {store.name!r}: {masked(store.url)!r} does not name a bucket and a prefix alone",
                remedy="write s3://bucket/prefix?endpoint=...&access_key_id=${NAME}&secret_access_key=${NAME}",
            )
        endpoint = options.get("endpoint", "")
        self.place += f" at {masked(endpoint)}" if endpoint else ""
        config: dict[str, Any] = {"checksum_algorithm": "SHA256"} if parts.scheme == "s3" else {}
        try:
            self.client: Any = _CLIENTS[parts.scheme](
                parts.netloc,
                prefix=prefix or None,
                config={**config, **options},
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "read_timeout": timedelta(seconds=SILENT_SECONDS),
                    "timeout": timedelta(seconds=REQUEST_SECONDS),
                },
                retry_config={
                    "max_retries": RETRIES,
                    "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=500),
                        "max_backoff": timedelta(seconds=10),
                        "base": 3,
                    },
                },
            )
        except UnknownConfigurationKeyError as error:
            [key] = re.findall(r"Configuration key: '([^']*)'", str(error))[:1] or ["?"]
            raise ConfigError(
                f"store {store.name!r}: the URL has the option {key!r}, which its kind of store does not know"
                f"{guess(key, _OPTIONS)}",
                remedy=f"among its options are {', '.join(_OPTIONS)}",
            ) from error
        except (BaseError, ValueError) as error:
            raise ConfigError(f"store {store.name!r} ({self.place}) cannot be opened: {_reason(error)}") from error

    def seen(self, key: str) -> Seen | None:
        """Return what the store tells of an object; None where there is none, or no bucket."""
        try:
            return _seen(obstore.head(self.client, key))
        except FileNotFoundError:
            return None

    def read(self, key: str) -> tuple[Seen, Iterator[Bytes]]:
        """Return what the store tells of an object, and its bytes in order, every part of the same version of it.

        A part that breaks off is asked for again. What its bytes are worth is for the reader to say: nothing proves
        that none was changed on its way.
        """
        whole = obstore.get(self.client, key)
        seen = _seen(whole.meta)
        if seen.size_bytes <= PART_BYTES:
            return seen, iter([self._whole(key, seen, whole)])
        return seen, self._parts(key, seen)

    def _whole(self, key: str, seen: Seen, result: Any) -> Bytes:
        try:
            data = result.bytes()
        except GenericError:
            return self._part(key, seen, 0)
        return data if len(data) == seen.size_bytes else self._part(key, seen, 0)

    def _parts(self, key: str, seen: Seen) -> Iterator[Bytes]:
        offsets = iter(range(0, seen.size_bytes, PART_BYTES))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting: deque[Future[Bytes]] = deque()
            try:
                for offset in offsets:
                    waiting.append(pool.submit(self._part, key, seen, offset))
                    if len(waiting) == AT_ONCE:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for part in waiting:
                    part.cancel()

    def _part(self, key: str, seen: Seen, offset: int) -> Bytes:
        end = min(offset + PART_BYTES, seen.size_bytes)
        options: GetOptions = {"range": (offset, end), "if_match": seen.version or None} if end else {}
        for tries_left in reversed(range(3)):
            try:
                data = obstore.get(self.client, key, options=options).bytes()
            except GenericError:
                if not tries_left:
                    raise
                continue
            if len(data) == end - offset:
                return data
        raise StoreError(
            f"bytes {offset} to {end} of {key!r} do not arrive whole from store {self.store.name!r} ({self.place})",
            remedy="see what lies between this host and the endpoint, then rerun",
        )

    def must_have_bucket(self) -> None:
        """Tell a file that is not there from a bucket that is not, as the answer to HEAD does not."""
        next(iter(obstore.list(self.client, prefix=".nightmill/none")), None)

    @contextmanager
    def named(self, doing: str, path: str) -> Iterator[None]:
        """Put errors of obstore into nightmill's words; nothing local may be touched inside."""
        where = f"{f'{path!r} in ' if path else ''}store {self.store.name!r} ({self.place})"
        what = f"cannot {doing} {where}"
        _users.add(os.getpid())
        if len(_users) > 1:  # it would wait for ever for threads that are not there
            raise StoreError(f"{what}: this process is a fork of one that used it", remedy="start a process anew")
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            text = str(error)
            why = _reason(error)
            if _NO_BUCKET.search(text):
                raise StoreError(f"{what}: the bucket does not exist", remedy=_BUCKET) from error
            if isinstance(error, FileNotFoundError):
                with self.named(doing, path):
                    self.must_have_bucket()
                raise missing(doing, where) from error
            if _NO_KEYS.search(text):
                raise StoreDenied(
                    f"{what}: neither its url nor this host has keys for it", remedy=_CREDENTIALS
                ) from error
            if _FULL.search(text):
                raise StoreFull(f"{what}: no space left: {why}", remedy="make room, then rerun") from error
            if _EXPIRED.search(text):
                raise StoreDenied(f"{what}: its credentials have expired: {why}", remedy="renew them") from error
            if _DENIED.search(text):
                raise StoreDenied(f"{what}: it is not allowed: {why}", remedy=_CREDENTIALS) from error
            if isinstance(error, PreconditionError):
                raise StoreError(f"{what}: it was changed meanwhile", remedy="see who else writes there") from error
            raise StoreError(f"{what}: {why}", remedy="see whether its endpoint answers, then try again") from error


_OPTIONS: Final = ("endpoint", "region", "access_key_id", "secret_access_key", "session_token")
_BUCKET: Final = "make it, or correct the url of the store; nightmill makes no buckets"
_CREDENTIALS: Final = "see which keys the url of the store has, and whether they may list, read, write and delete there"


def _seen(meta: Mapping[str, Any]) -> Seen:
    return Seen(meta["size"], meta["e_tag"] or "")


def _reason(error: Exception) -> str:
    """Return in a line what a server said, or else what became of the request, without what is secret."""
    text = str(error).partition("\n\nDebug source")[0].removeprefix("Generic S3 error: ")
    tried = _TRIED.search(text)
    tries = f" (after {tried['retries']} retries in {tried['seconds']} s)" if tried else ""
    if (code := _CODE.search(text)) is not None:
        return f"{code[1]}: {(code[2] or 'it does not say more').strip()}{tries}"
    said = _STATUS.sub("", " ".join(text.rpartition(" - ")[2].split())).rstrip(": ")
    return masked(said)[:300] + tries
