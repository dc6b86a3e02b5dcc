"""The Prefect server of a site, as its nightmill.yaml says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field

from nightmill.config.document import Document, Key, dotted
from nightmill.errors import ConfigError
from nightmill.model.base import Frozen
from nightmill.model.secrets import filled, resolved

NO_AUTH: Final = "none"
"""The value of ``server.auth`` that lets everyone in who reaches the server."""
_AUTH: Final = re.compile(r"[!-9;-~]+:[ -~]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?")


class ServerConfig(Frozen):
    """The Prefect server of a site."""

    host: str = "127.0.0.1"
    """Address that it listens on."""
    port: int = Field(default=0, ge=0, le=65535)
    """0 for a free one, chosen when the server starts."""
    database: str = Field(default="", repr=False)
    """URL of its own database; empty for an SQLite file in the site's folder."""
    auth: str = Field(default="", repr=False)
    """``user:password`` that its API asks for; empty for a random one, ``none`` for no password at all."""
    hosts: tuple[str, ...] = ()
    """Further names, as ``name`` or ``name:port``, by which it is reached: those of a proxy before it."""
    slices: int = Field(default=2, ge=1)
    """Slices that are worked on at a time, on each host."""

    def with_secrets(self, secrets: Mapping[str, str]) -> ServerConfig:
        """Return it with the values of what it refers to, for whoever starts the server.

        Raises
        ------
        ConfigError
            Where the URL of its database refers to something that is not set.
        """
        database = resolved("server.database", self.database, secrets)
        return self.model_copy(update={"database": database, "auth": filled(self.auth, secrets)})


def check_server(server: ServerConfig, document: Document, errors: list[ConfigError]) -> None:
    """Add everything that is wrong with it, beside what its type says, to errors."""
    where = document.where(("server", "auth"))
    is_filled = all(error.where != where for error in errors)  # or a variable in it is not set
    if is_filled and server.auth not in ("", NO_AUTH) and not _AUTH.fullmatch(server.auth):
        errors.append(
            ConfigError(
                "server.auth should be user:password, in printable ASCII characters",
                where=where,
                remedy=f"leave it away for a random password, or write {NO_AUTH} for none at all",
            )
        )
    for number, host in enumerate(server.hosts):
        if not _HOST.fullmatch(host):
            key: Key = ("server", "hosts", number)
            errors.append(
                ConfigError(f"{dotted(key)} is {host!r}, and should be name or name:port", where=document.where(key))
            )
