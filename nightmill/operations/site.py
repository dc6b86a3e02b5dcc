"""A site, made once and then opened: its configuration, its database, and what moves bytes to and from its stores."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pwd import getpwuid
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from nightmill.backbone.audit import record_act
from nightmill.backbone.catalogue import store_ids
from nightmill.backbone.database import Database
from nightmill.config.file_types import load_file_types
from nightmill.config.site import SITE_FILE, SiteConfig, home_of, load_site
from nightmill.config.template import file_types_text, site_text
from nightmill.errors import ConfigError, RequestRefused
from nightmill.execution.job import utc_now
from nightmill.model.access import Access
from nightmill.model.ports import Stager
from nightmill.model.store import Store
from nightmill.operations.patience import NONE, Patience
from stagers import open_stagers

Result = TypeVar("Result")

PRIVATE: Final = ".nightmill"
"""Folder of a site for what nobody edits: the server's files, and secrets."""
FILE_TYPES_FILE: Final = "file_types.yaml"
READER_FILE: Final = "reader.json"


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
        return open_stagers(self.config.stores)

    @property
    def private(self) -> Path:
        """The folder for what nobody edits."""
        return self.config.directory / PRIVATE

    @property
    def reader_file(self) -> Path:
        """Where the role that ad-hoc SQL is asked as is kept."""
        return self.private / READER_FILE

    def patiently(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns, waited for as :meth:`~nightmill.operations.patience.Patience.wait` does."""
        return self.patience.wait(work, self.config.spool)

    def operator(self, verb: str) -> str:
        """Return the user whose process this is, where they may do what changes the site.

        Raises
        ------
        RequestRefused
            Where the site names its operators, and they are none of them.
        """
        user, operators = current_user(), self.config.operators
        if operators and user not in operators:
            raise RequestRefused(
                f"'nightmill {verb}' is for the operators of site {self.config.name!r}, and {user!r} is none of them",
                remedy="'operators' in nightmill.yaml names them",
            )
        return user

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> Site:
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
        Where its database has another schema revision than this program.
    DatabaseAway
        Where the database cannot be reached.
    """
    config = load_site(directory, need_types=need_types)
    os.umask(config.access.umask)
    site = Site(config, Database(config.database_url), patience or NONE)
    site.patiently(site.database.check_revision)
    return site


def make_site(directory: Path, *, database: str = "", file_types: Path | None = None) -> Site:
    """Make a site, or complete one: configuration, folders, database with the newest schema.

    What is there is kept, so that this can be done again: after a change of the stores, or with a new release. Its
    folders, database and configuration are opened and closed to others as its ``access`` says; stores that are there
    already, and elsewhere, stay as they are.

    Parameters
    ----------
    directory
        Its folder, made where it is missing.
    database
        URL of the catalogue of a new site; by default an SQLite file in its folder.
    file_types
        The file types of a new site, which are copied; by default some to begin with.

    Raises
    ------
    RequestRefused
        Where a database or file types are given for a site that has its configuration already, a folder or file cannot
        be made, or the user is none of its operators.
    ConfigError
        Where its configuration is wrong.
    DatabaseAway
        Where the database cannot be reached.
    """
    directory = home_of(str(directory)).resolve()
    os.umask(Access.PRIVATE.umask)  # until its configuration says otherwise
    if not (directory / SITE_FILE).exists():
        with _making(directory):
            _write_configuration(directory, database, file_types)
    elif database or file_types:
        raise RequestRefused(
            f"{directory / SITE_FILE} is there already", remedy="change it, and leave --database and --file-types away"
        )
    config = load_site(directory)
    site = Site(config, Database(config.database_url))
    who = site.operator("init")
    os.umask(config.access.umask)
    with _making(directory):
        _settle_modes(config)
        for folder in (config.scratch, config.spool, site.private):
            folder.mkdir(parents=True, exist_ok=True)
        for store in config.stores.values():
            if (its_own := folder_of(store)) is not None and not its_own.is_dir():
                its_own.mkdir(parents=True)
                its_own.chmod(store.access.folder_mode)
        if site.database.file is not None:
            site.database.file.touch()  # SQLite makes it, and what lies beside it, with a mode of its own
        _settle_modes(config)
    site.database.create()
    with site.database.writing() as session:
        store_ids(session, config.stores)
        record_act(session, who=who, verb="init", subject=str(directory), now=utc_now())
    return site


def current_user() -> str:
    """Return the user whose process this is: what the operating system says, and not the environment."""
    try:
        return getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@contextmanager
def _making(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestRefused(f"{error.filename or directory} cannot be made: {error.strerror}") from error


def folder_of(store: Store) -> Path | None:
    """Return the folder that a store is, or None where it is none."""
    parts = urlsplit(store.url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _settle_modes(config: SiteConfig) -> None:
    for path, mode in modes(config):
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def modes(config: SiteConfig) -> Iterator[tuple[Path, int]]:
    """Yield what there is of a site's own folders and files, each with the mode that its access means.

    A store in the folder of the site is its own; of others it is not known who else uses them.
    """
    access = config.access
    database = Database(config.database_url).file
    files = [config.directory / SITE_FILE, config.directory / FILE_TYPES_FILE]
    if database is not None:
        files += [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm")]
    stores: dict[Path, int] = {}
    for store in config.stores.values():
        folder = folder_of(store)
        if folder is not None and config.directory in folder.parents:
            between = [*folder.parents][: [*folder.parents].index(config.directory)]
            stores |= {**dict.fromkeys(between, access.folder_mode), folder: store.access.folder_mode}
    wanted = stores | {
        **dict.fromkeys((config.directory, config.scratch, config.spool), access.folder_mode),
        config.directory / PRIVATE: access.folder_mode & ~0o007,
        config.directory / PRIVATE / READER_FILE: access.file_mode & ~0o007,
        **dict.fromkeys(files, access.file_mode),
    }
    yield from ((path, mode) for path, mode in wanted.items() if path.exists())


def _write_configuration(directory: Path, database: str, file_types: Path | None) -> None:
    """Write the configuration of a new site; nothing stays of one that is wrong."""
    types = directory / FILE_TYPES_FILE
    if file_types is not None:
        load_file_types([file_types])
        if types.exists():
            raise RequestRefused(f"{types} is there already", remedy="leave --file-types away, or remove that file")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", directory.name).strip("-_") or "site"
    texts = {
        types: file_types_text() if file_types is None else file_types.read_text(),
        directory / SITE_FILE: site_text(name, database) if database else site_text(name),
    }
    written = [path for path in texts if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in written:
        path.write_text(texts[path])
    try:
        load_site(directory)
    except ConfigError:
        for path in written:
            path.unlink()
        raise
