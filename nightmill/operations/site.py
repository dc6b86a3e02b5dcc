"""A site that was opened: its configuration, its database, and what moves bytes to and from its stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self, TypeVar

from sqlalchemy.orm import Session

from nightmill.backbone.database import Database
from nightmill.config.site import READER_FILE, SECRETS_FILE, SITE_FILE, SITE_ID_FILE, SiteConfig, load_site
from nightmill.execution.owner import host_name
from nightmill.execution.stores import open_stagers
from nightmill.execution.transfers import Transfers
from nightmill.model.node import NodeProfile
from nightmill.model.ports import Stager
from nightmill.model.store import Store
from nightmill.operations.identity import identify
from nightmill.operations.patience import NONE, Patience

Result = TypeVar("Result")

PRIVATE: Final = ".nightmill"
"""Folder of a site for what nobody edits: the server's files, and secrets."""
FILE_TYPES_FILE: Final = "file_types.yaml"
SIGNING_KEY_FILE: Final = "signing.key"
"""File of that folder with the key by which workers sign what they publish."""
SCHEMAS: Final = f"{PRIVATE}/schemas"
"""Folder of a site for the JSON Schemas of its documents, which editors read."""


@dataclass(frozen=True)
class Site:
    """An opened site; close it when done, or use it as a context."""

    config: SiteConfig
    database: Database
    patience: Patience = NONE
    """How long :meth:`patiently` waits for the database; commands do not wait."""

    @cached_property
    def stagers(self) -> Mapping[str, Stager]:
        """What moves bytes to and from each store and working area, by their names."""
        return open_stagers(self.config.stores, self.config.secrets)

    @cached_property
    def far_stagers(self) -> Mapping[str, Stager]:
        """What reads the stores of partners, by SITE:STORE: nothing is ever written there."""
        return open_stagers(self.config.far_stores, self.config.secrets)

    @cached_property
    def transfers(self) -> Transfers:
        """How many transfers run at a time between each store and this host."""
        return Transfers(self.config.spool, host_name(), self.config.transfers)

    @contextmanager
    def moving(self, store: str) -> Iterator[Stager]:
        """Give what moves bytes to and from a store for one transfer, which waits where no more may run at a time."""
        with self.transfers.take(store) or ExitStack():
            yield self.stagers[store]

    @property
    def profile(self) -> NodeProfile:
        """What a worker of the site may use on this host."""
        config = self.config
        secrets = config.directory / SECRETS_FILE
        return NodeProfile(
            scratch=config.scratch,
            spool=config.spool,
            cache=config.cache,
            access=config.access,
            transfers=config.transfers,
            containers=config.containers,
            network_paths=config.network_paths,
            logs=config.logs.of_nodes,
            confinement=config.confinement,
            secrets=secrets if secrets.exists() else None,
            signing_key=self.signing_key if self.signing_key.exists() else None,
        )

    @property
    def private(self) -> Path:
        """The folder for what nobody edits."""
        return self.config.directory / PRIVATE

    @property
    def signing_key(self) -> Path:
        """The private key with which its workers sign."""
        return self.private / SIGNING_KEY_FILE

    @property
    def reader_file(self) -> Path:
        """Where the role that ad-hoc SQL is asked as is kept."""
        return self.config.directory / READER_FILE

    def patiently(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns, waited for as :meth:`~nightmill.operations.patience.Patience.wait` does."""
        return self.patience.wait(work, self.config.spool)

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_site(directory: Path | None = None, *, need_types: bool = True, patience: Patience | None = None) -> Site:
    """Open a site: from then on, what this process makes is open to whom the site says, whatever umask it began with.

    Parameters
    ----------
    directory
        Its folder; by default that of ``NIGHTMILL_SITE``, else the nearest above the working directory.
    need_types
        Whether what is wrong with its file types is an error; else ``config.wrong_types`` has it.
    patience
        How long its database is waited for, here and by whoever uses the site; by default not at all.

    Raises
    ------
    ConfigError
        Where there is none, or its configuration is wrong.
    RequestRefused
        Where its database has another schema revision than this program, or does not know the site.
    DatabaseAway
        Where the database cannot be reached.
    """
    config = load_site(directory, need_types=need_types)
    os.umask(config.access.umask)
    site = Site(config, database_of(config), patience or NONE)
    try:
        site.patiently(site.database.check_revision)
        site.patiently(lambda: identify(config, site.database))
    except BaseException:
        site.close()
        raise
    return site


def database_of(config: SiteConfig) -> Database:
    """Return the database of a site, which nothing has connected to yet."""
    return Database(config.database_url, secrets=config.secrets)


def folder_of(store: Store) -> Path | None:
    """Return the folder that a store is, or None where it is none."""
    return store.folder


def modes(config: SiteConfig) -> Iterator[tuple[Path, int]]:
    """Yield what there is of a site's own folders and files, each with the mode that its access means.

    A store in the folder of the site is its own; of others it is not known who else uses them.
    """
    access = config.access
    database = database_of(config).file
    files = [config.directory / SITE_FILE, config.directory / FILE_TYPES_FILE]
    if database is not None:
        files += [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm")]
    stores: dict[Path, int] = {}
    schemas = config.directory / SCHEMAS
    for store in config.stores.values():
        folder = folder_of(store)
        if folder is not None and config.directory in folder.parents:
            between = [*folder.parents][: [*folder.parents].index(config.directory)]
            stores |= {**dict.fromkeys(between, access.folder_mode), folder: store.access.folder_mode}
    wanted = stores | {
        **dict.fromkeys((config.directory, config.scratch, config.spool, config.cache), access.folder_mode),
        config.directory / PRIVATE: access.folder_mode & ~0o007,
        schemas: access.folder_mode & ~0o007,
        **dict.fromkeys(schemas.glob("*.json"), access.file_mode & ~0o007),
        config.directory / READER_FILE: access.file_mode & ~0o007,
        config.directory / PRIVATE / SIGNING_KEY_FILE: access.file_mode & ~0o027,
        config.directory / SITE_ID_FILE: access.file_mode & ~0o007,
        **dict.fromkeys(files, access.file_mode),
    }
    yield from ((path, mode) for path, mode in wanted.items() if path.exists())


def read(site: Site, work: Callable[[Session], Result]) -> Result:
    """Do what only reads, in a transaction of its own."""
    with site.database.reading() as session:
        return work(session)
