"""Where a store lies that is reached by SSH: what its URL says, and what is said where one does not get there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import asyncssh

from nightmill.errors import ConfigError, StoreDenied, guess
from nightmill.model.secrets import masked
from nightmill.model.store import Store

_ASKED: Final = ("identity", "passphrase", "known_hosts", "fingerprint")


@dataclass(frozen=True)
class Place:
    """Where a store lies on another machine, and how one gets there: what its URL says."""

    store: str
    """Name of the store."""
    host: str
    port: int | None
    user: str | None
    password: str | None
    folder: str
    """Absolute, or below the home folder there."""
    identity: str = ""
    """Path of the private key; empty for those that ``ssh`` would take, from an agent too."""
    passphrase: str | None = None
    known_hosts: str = ""
    """Path of the file of known hosts; empty for the user's."""
    fingerprint: str = ""
    """Of the host's key, where no file of known hosts is asked."""

    @classmethod
    def of(cls, store: Store) -> Self:
        """Read the URL of a store, with its secrets filled in.

        Raises
        ------
        ConfigError
            Where it names no host or folder, or asks for something unknown.
        """
        parts = urlsplit(store.url)
        what = f"store {store.name!r} has the URL {masked(store.url)!r}"
        folder = unquote(parts.path)
        folder = "" if folder == "/~" else folder.removeprefix("/~/")
        if not parts.hostname or not folder.strip("/"):
            lacking = "folder" if parts.hostname else "host"
            raise ConfigError(
                f"{what}, which names no {lacking}", remedy="write sftp://USER@HOST/PATH, or sftp://USER@HOST/~/PATH"
            )
        asked = {}
        for item in filter(None, parts.query.split("&")):
            key, _, value = item.partition("=")
            if key not in _ASKED:
                raise ConfigError(
                    f"{what}, which asks for {key!r}{guess(key, _ASKED)}", remedy=f"it may have {', '.join(_ASKED)}"
                )
            asked[key] = unquote(value)
        for key in ("identity", "known_hosts"):
            if key in asked:
                asked[key] = str(Path(asked[key]).expanduser())
        user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
        return cls(store.name, parts.hostname, parts.port, user, password, folder.rstrip("/"), **asked)

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"sftp://{user}{self.host}{port}{'' if self.folder.startswith('/') else '/~/'}{self.folder}"

    @property
    def trusted(self) -> Path:
        """The file of known hosts."""
        return Path(self.known_hosts) if self.known_hosts else Path.home() / ".ssh" / "known_hosts"


def not_trusted(place: Place, key: asyncssh.SSHKey | None, error: asyncssh.HostKeyNotVerifiable) -> StoreDenied:
    """Say which host is not trusted, what key it has, and what to do."""
    what = f"host {place.host!r} of store {place.store!r}"
    if key is None:  # revoked, or a certificate that does not hold
        return StoreDenied(f"{what} is not trusted: {error.reason}", remedy="ask who runs that host")
    own = f"its key is {key.get_algorithm()} {key.get_fingerprint()}"
    if place.fingerprint:
        return StoreDenied(
            f"{what} is not the one that its URL names: {own}, and not {place.fingerprint}",
            remedy="ask who runs that host whether its key was changed; if not, somebody else answers in its place",
        )
    port = f"-p {place.port} " if place.port else ""
    with suppress(OSError, ValueError):
        known = asyncssh.read_known_hosts(str(place.trusted)).match(place.host, "", place.port)[0]
        if known:
            return StoreDenied(
                f"{what} is not the one that {place.trusted} knows: {own}, and"
                f" {', '.join(each.get_fingerprint() for each in known)} is known",
                remedy="ask who runs that host whether its key was changed; if not, somebody else answers in its place",
            )
    return StoreDenied(
        f"{what} is not known in {place.trusted}: {own}",
        remedy="ask who runs that host whether that is its key; if it is, append what 'ssh-keyscan"
        f" {port}{place.host}' prints to that file, or add 'fingerprint={key.get_fingerprint()}' to the store's URL",
    )


def not_let_in(place: Place, error: asyncssh.PermissionDenied) -> StoreDenied:
    """Say by what one was not let in."""
    if place.identity:
        by = f"the identity {place.identity}"
    elif place.password is not None:
        by = "the password of the store's URL"
    else:
        by = "the keys of ~/.ssh and the agent"
    return StoreDenied(
        f"host {place.host!r} of store {place.store!r} does not let {place.user or 'this user'} in with {by}:"
        f" {error.reason}",
        remedy=f"see that 'sftp {place.user + '@' if place.user else ''}{place.host}' works from this host",
    )
