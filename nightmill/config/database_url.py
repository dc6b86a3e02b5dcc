"""The URL of a site's database, as its configuration may have it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from nightmill.config.document import Document
from nightmill.errors import ConfigError
from nightmill.model.secrets import masked

POSTGRESQL: Final = "postgresql+psycopg"


def database_url(url: str, written: str, folder: Path, document: Document, errors: list[ConfigError]) -> str:
    """Make the path of an SQLite file absolute, keep references in other URLs; refuse that of another database."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("postgresql", POSTGRESQL):
        if find_spec("psycopg") is None:
            errors.append(
                ConfigError(
                    "database is PostgreSQL, and psycopg is not installed",
                    where=document.where(("database",)),
                    remedy="install nightmill with its extra 'postgres'",
                )
            )
        own_scheme, _, own_rest = written.partition("://")
        return f"{POSTGRESQL}://{own_rest}" if own_scheme == scheme else written
    if not separator or scheme != "sqlite":
        errors.append(
            ConfigError(
                f"database is {masked(url)!r}, no database of a kind that is supported",
                where=document.where(("database",)),
                remedy="write sqlite:///nightmill.db or postgresql+psycopg://user@host/name",
            )
        )
        return url
    if not rest.startswith("/") or len(rest) < 2 or rest == "/:memory:":
        errors.append(
            ConfigError(
                "database should name an SQLite file",
                where=document.where(("database",)),
                remedy="write sqlite:///nightmill.db, with three slashes",
            )
        )
    return f"{scheme}:///{folder / rest[1:]}".replace("$", "$$")
