"""One database: its engine, its transactions, its migrations.

Reading and writing are separate doors. A writing transaction on SQLite begins IMMEDIATE, because one that reads first
and writes then fails at once when another writes, whatever the timeout; it is tried again while the database is
locked. No file is touched inside of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Engine, column, create_engine, event, inspect, select, table
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from nightmill.backbone.sites import SITE_ID
from nightmill.backbone.trouble import safe_url, trouble
from nightmill.errors import DatabaseAway, RequestRefused
from nightmill.model.secrets import resolved

Result = TypeVar("Result")

BUSY_SECONDS: Final = 30.0
"""How long a writing transaction waits for another to end before it is tried again."""
WRITE_TRIES: Final = 4
DRIVER: Final = "postgresql+psycopg"
REVISIONS: Final = "alembic_version"
"""The table that has the revision of the schema."""

_POSTGRESQL: Final = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000}
"""A server that vanished without a word is found out within a minute or so; what the URL says of these goes first."""


class Database:
    """The backbone's database.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:////path/file.db`` or ``postgresql+psycopg://...``. What is secret in it stands as
        ``${NAME}``: only :attr:`address` has the value.
    secrets
        What ``${NAME}`` stands for.
    busy_seconds
        How long SQLite waits for a lock.
    """

    def __init__(
        self, url: str, *, secrets: Mapping[str, str] = MappingProxyType({}), busy_seconds: float = BUSY_SECONDS
    ) -> None:
        self.url = url
        self._secrets = secrets
        self.busy_seconds = busy_seconds
        self.site_id: int | None = None
        """The site that opened it; see :func:`nightmill.backbone.sites.this_site`."""

    @cached_property
    def address(self) -> URL:
        """Where to connect, with what is secret in it; it is masked where it is printed.

        Raises
        ------
        ConfigError
            Where the URL refers to something that is not set.
        """
        url = make_url(resolved("database", self.url, self._secrets))
        return url.set(drivername=DRIVER) if url.drivername == "postgresql" else url

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite (and not PostgreSQL)."""
        return self.address.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        """The file that it is, where it is SQLite."""
        return Path(self.address.database or "").absolute() if self.is_sqlite else None

    @cached_property
    def engine(self) -> Engine:
        """The engine, made at first use."""
        if not self.is_sqlite:
            options = {key: value for key, value in _POSTGRESQL.items() if key not in self.address.query}
            return create_engine(self.address, pool_pre_ping=True, pool_size=4, connect_args=options)
        engine = create_engine(self.address, connect_args={"timeout": self.busy_seconds})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @cached_property
    def _snapshots(self) -> Engine:
        """The engine, for transactions that see one state: SQLite's always do, PostgreSQL's where they ask for it."""
        return self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def _info(self) -> dict[Any, Any]:
        return {} if self.site_id is None else {SITE_ID: self.site_id}

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees one state of the database and writes nothing.

        Raises
        ------
        ServiceError
            Where the database cannot be used: :class:`~nightmill.errors.DatabaseAway` where it may be back by itself.
        """
        with _translated(self.url), Session(self._snapshots, expire_on_commit=False, info=self._info) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session whose work is committed as a whole when the block ends, and undone when it raises.

        Raises
        ------
        ServiceError
            Where the database cannot be used; nothing was written. As for :meth:`reading`.
        """
        options = {"write": True}
        with (
            _translated(self.url),
            self.engine.connect().execution_options(**options) as connection,
            Session(connection, expire_on_commit=False, info=self._info) as session,
        ):
            yield session
            session.commit()

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Run ``work(session)`` in a writing transaction, again from the start where a lock or a lost race ended it.

        Raises
        ------
        ServiceError
            Where the database cannot be used; nothing was written. As for :meth:`reading`.
        """
        for number in range(1, WRITE_TRIES + 1):
            try:
                with self.writing() as session:
                    return work(session)
            except DatabaseAway:
                if number == WRITE_TRIES:
                    raise
                time.sleep(0.1 * 2**number)
        raise AssertionError("unreachable")

    def create(self) -> None:
        """Bring the schema to the newest revision; an empty database gets all of it."""
        from alembic import command

        with _translated(self.url), self.engine.connect() as connection:
            command.upgrade(self._alembic(connection), "head")

    def check_revision(self) -> None:
        """Make sure that the schema is the one that this program knows.

        Raises
        ------
        RequestRefused
            Where it is older, newer, or not there.
        """
        with _translated(self.url), self.engine.connect() as connection:
            there = inspect(connection).has_table(REVISIONS)
            found: str | None = (
                connection.scalar(select(column("version_num")).select_from(table(REVISIONS))) if there else None
            )
        wanted = newest_revision()
        if found is None:
            raise RequestRefused(
                f"the database {safe_url(self.url)} has no catalogue in it",
                remedy="bring it back where it was moved away; for a new one run 'nightmill init' in the site's folder",
            )
        if found != wanted:
            raise RequestRefused(
                f"the database {safe_url(self.url)} has schema revision {found}, this program needs {wanted}",
                remedy="run 'nightmill init' in the site's folder to bring it up to date",
            )

    def _alembic(self, connection: Connection) -> Any:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(files("nightmill.backbone") / "migrations"))
        config.attributes["connection"] = connection
        return config


def newest_revision() -> str:
    """Return the revision of the schema that this program knows, as the names of its migrations tell it.

    Every command asks for it, and to import Alembic and all migrations takes a fifth of the time of a short one.
    """
    migrations = (path.name for path in (files("nightmill.backbone") / "migrations" / "versions").iterdir())
    return max(name for name in migrations if name[0].isdecimal()).partition("_")[0]


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if (found := trouble(error, url)) is None:
            raise
        raise found from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event opens every transaction
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-65536")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


__all__ = ["BUSY_SECONDS", "Database", "safe_url"]
