"""A store in object storage: S3 and what speaks its language, Google's and Azure's by the same client.

An object has its name from the moment when it is written, and a copy or a large upload overwrites what stands there.
One thing alone is exclusive: a single PUT that is to make an object which does not exist (``If-None-Match``). So a name
is given by a claim of it, made in that way, which tells whose it is; then by a copy inside of the store; and then the
claim goes. Whoever finds the claim of another waits for what comes of it. A process that died in between leaves its
claim, and the same attempt goes on from there, whoever carries it on.

Whatever is not a stored file lies below ``.nightmill/`` of the store: uploads, claims, and the probe.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from nightmill.errors import StoredFileMissing, StoreError
from nightmill.model.store import Store
from stagers.common import NewFile, collision, is_inside, outside
from stagers.endpoint import AT_ONCE, MAX_PARTS, PART_BYTES, Endpoint, Seen

if TYPE_CHECKING:
    from obstore import Bytes

OWN: Final = ".nightmill/"
UPLOADS: Final = f"{OWN}uploads/"
CLAIMS: Final = f"{OWN}claims/"
PROBE: Final = f"{OWN}probe"
COPY_BYTES: Final = 5 << 30
"""S3 copies no more by one request: what is larger passes through this process a second time."""
CLAIM_TIME: Final = timedelta(hours=1)
"""Whoever holds a claim for longer is dead, as nothing that it does may take as long; another may take it over.

The clocks of the store and of this host are compared: S3 refuses a host whose clock is 15 minutes wrong.
"""
WAIT_SECONDS: Final = 30.0
"""How long another's claim is waited for."""

_probed: set[str] = set()
"""URLs of the stores of which this process knows that they refuse to overwrite."""


class _Claim(NamedTuple):
    """Which attempt is to publish a name."""

    attempt: str
    version: str
    since: datetime


class ObjectStager:
    """Moves bytes between a bucket and local paths; see :class:`nightmill.model.ports.Stager` for what it promises."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.endpoint = Endpoint(store)
        self._client: Any = self.endpoint.client
        self._verified: dict[str, Seen] = {}
        """What was read of uploads, by their keys."""

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet."""
        key = self._key(path)
        size = 0
        with NewFile(target) as file, self.endpoint.named("read", path):
            for part in self.endpoint.read(key)[1]:
                file.write(memoryview(part))
                size += len(part)
        return size

    def upload(self, source: Path, path: str, *, attempt: str) -> None:
        """Bring a local file in under a key of its own, durable, not yet visible."""
        key = self._upload_key(path, attempt)
        with source.open("rb", buffering=0) as file:
            self._refuse_careless()
            size = os.fstat(file.fileno()).st_size
            with self.endpoint.named("write", path):
                if self.endpoint.seen(path) is not None:
                    raise collision(path, self.store)
                self._verified.pop(key, None)
                self._put(key, Path(f"/proc/self/fd/{file.fileno()}"), size)

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give an uploaded file its name: exclusive and atomic."""
        key = self._upload_key(path, attempt)
        claim = self._claim_key(path)
        self._refuse_careless()
        with self.endpoint.named("publish", path):
            upload = self.endpoint.seen(key)
            if upload is None:
                raise FileNotFoundError(path)
            if self._verified.get(key, upload) != upload:
                raise self._changed(path)
            went_on = self._claim(path, attempt)
            if self.endpoint.seen(path) is None:
                self._copy(key, path, upload)
            elif not (went_on and self._is_same(path, key)):
                self._remove(claim)
                raise collision(path, self.store)
        self._verified.pop(key, None)
        with suppress(StoreError), self.endpoint.named("clean up", path):  # the name is given, whatever is left
            self._remove(key, claim)

    def settle(self, paths: Iterable[str]) -> None:
        """Return: what an object store has accepted is durable."""
        for path in paths:
            self._key(path)

    def discard(self, path: str, *, attempt: str) -> None:
        """Remove an upload that was not revealed, and its claim of the name."""
        key, claim = self._upload_key(path, attempt), self._claim_key(path)
        self._verified.pop(key, None)
        with self.endpoint.named("clean up", path):
            held = self._holder(claim)
            self._remove(key, *[claim] if held and held.attempt == attempt else [])

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        key = self._upload_key(path, attempt)
        try:
            seen, digest = self._digest(key, path)
        except StoredFileMissing:
            return None
        self._verified[key] = seen
        return seen.size_bytes, digest

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        with self.endpoint.named("look at", path):
            seen = self.endpoint.seen(self._key(path))
            if seen is None:
                self.endpoint.must_have_bucket()
        return None if seen is None else seen.size_bytes

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits."""
        return self._digest(self._key(path), path)[1]

    def remove(self, path: str) -> None:
        """Remove a stored file, if it is there."""
        with self.endpoint.named("remove", path):
            self._remove(self._key(path))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every stored file below a prefix."""
        for path, size in self._listed(self._key(prefix) if prefix else ""):
            if not path.startswith(OWN):
                yield path, size

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield place and attempt of every upload that was not revealed, and of every claim that is left alone."""
        names = set()
        for place, _size in self._listed(UPLOADS):
            attempt, _, name = place.removeprefix(UPLOADS).rpartition(".")
            names.add((name, attempt))
            yield place, attempt
        for place, _size in self._listed(CLAIMS):
            with self.endpoint.named("read", place):
                held = self._holder(place)
            if held is not None and (place.removeprefix(CLAIMS), held.attempt) not in names:
                yield place, held.attempt

    # ---------------------------------------------------------------------------------------- claims

    def _claim(self, path: str, attempt: str) -> bool:
        """Claim a name for an attempt; return whether it had claimed it before.

        Where another holds the claim, it is waited for: then its file stands there, or the name is free again.
        """
        claim, until = self._claim_key(path), monotonic() + WAIT_SECONDS
        mode: Any = "create"
        while True:
            try:
                obstore.put(self._client, claim, attempt.encode(), mode=mode)
                return False
            except (AlreadyExistsError, PreconditionError):
                held, mode = self._holder(claim), "create"
            if held is not None and held.attempt == attempt:
                return True
            if monotonic() > until:
                who = f"{held.attempt} claims the name since {held.since:%H:%M:%S} UTC" if held else "another claims it"
                raise StoreError(
                    f"{path!r} was not published in store {self.store.name!r} ({self.endpoint.place}): {who}, and has"
                    " not published it",
                    remedy=f"where that one is dead, remove {claim}, which lapses after {CLAIM_TIME} in any case",
                )
            if held is not None and datetime.now(UTC) - held.since > CLAIM_TIME:
                mode = {"e_tag": held.version}
            else:
                sleep(0.05)

    def _holder(self, claim: str) -> _Claim | None:
        try:
            found = obstore.get(self._client, claim)
        except FileNotFoundError:
            return None
        attempt = bytes(found.bytes()).decode(errors="replace")
        return _Claim(attempt, found.meta["e_tag"] or "", found.meta["last_modified"])

    def _refuse_careless(self) -> None:
        """Make sure, once a process, that the store refuses what would overwrite.

        Raises
        ------
        StoreError
            Where it overwrites.
        """
        if self.store.url in _probed:
            return
        with self.endpoint.named("write to", ""):
            try:
                for _ in range(2):  # the first makes the probe, where it is not there yet
                    obstore.put(self._client, PROBE, b"", mode="create")
            except AlreadyExistsError:
                _probed.add(self.store.url)
                return
            except NotSupportedError:
                pass
        raise StoreError(
            f"store {self.store.name!r} ({self.endpoint.place}) overwrites objects that exist: its endpoint ignores the"
            " header If-None-Match, and nightmill writes nothing there",
            remedy="use a server that honours conditional writes, as S3 does",
        )

    # ----------------------------------------------------------------------------------------- bytes

    def _copy(self, key: str, path: str, upload: Seen) -> None:
        """Write a file under its claimed name: at once, or not at all."""
        if upload.size_bytes <= COPY_BYTES:
            obstore.copy(self._client, key, path)
            return
        until = datetime.now(UTC) + CLAIM_TIME * 0.9
        seen, parts = self.endpoint.read(key)
        if seen != upload:
            raise self._changed(path)

        def in_time() -> Iterator[Bytes]:
            for part in parts:
                if datetime.now(UTC) > until:
                    raise StoreError(
                        f"{path!r} of {seen.size_bytes} bytes was not published in store {self.store.name!r}: it would"
                        f" take longer than {CLAIM_TIME}",
                        remedy="make smaller files, or a faster way to the store",
                    )
                yield part

        self._put(path, in_time(), seen.size_bytes)

    def _put(self, key: str, source: Path | Iterator[Bytes], size_bytes: int) -> None:
        part = max(PART_BYTES, -(-size_bytes // MAX_PARTS))
        obstore.put(self._client, key, source, chunk_size=part, max_concurrency=AT_ONCE, mode="overwrite")

    def _digest(self, key: str, path: str) -> tuple[Seen, str]:
        digest = sha256()
        with self.endpoint.named("read", path):
            seen, parts = self.endpoint.read(key)
            for part in parts:
                digest.update(part)
        return seen, digest.hexdigest()

    def _is_same(self, path: str, key: str) -> bool:
        return self._digest(path, path)[1] == self._digest(key, path)[1]

    def _listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        with self.endpoint.named("list", prefix):
            for batch in obstore.list(self._client, prefix=prefix or None, chunk_size=1000):
                yield from ((found["path"], found["size"]) for found in batch)

    def _remove(self, *keys: str) -> None:
        try:
            obstore.delete(self._client, keys[0] if len(keys) == 1 else [*keys])
        except FileNotFoundError:
            self.endpoint.must_have_bucket()

    # ----------------------------------------------------------------------------------------- names

    def _key(self, path: str) -> str:
        if not (is_inside(path) and path.isprintable()) or f"{path}/".startswith(OWN):
            raise outside(path, self.store)
        return path

    def _upload_key(self, path: str, attempt: str) -> str:
        return f"{UPLOADS}{attempt}.{_short(self._key(path))}"

    def _claim_key(self, path: str) -> str:
        return f"{CLAIMS}{_short(self._key(path))}"

    def _changed(self, path: str) -> StoreError:
        return StoreError(
            f"{path!r} was changed in store {self.store.name!r} between its verification and its publication",
            remedy="see who else writes to the store, then rerun",
        )


def _short(path: str) -> str:
    return sha256(path.encode()).hexdigest()[:32]
