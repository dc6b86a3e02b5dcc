"""Making a site: its configuration, its folders and its database."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.indexes import index_keys
from nightmill.backbone.catalogue.signing_keys import add_key
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.clock import utc_now
from nightmill.config.file_types import load_file_types
from nightmill.config.kinds import Kind
from nightmill.config.schema import referring, schema_text
from nightmill.config.site import SITE_FILE, SiteConfig, load_site
from nightmill.config.stores import home_of
from nightmill.config.template import file_types_text, site_text
from nightmill.errors import ConfigError, RequestRefused
from nightmill.execution.sealing import Key, make_key
from nightmill.model.access import Access
from nightmill.operations.acts import Act
from nightmill.operations.identity import settle
from nightmill.operations.site import FILE_TYPES_FILE, SCHEMAS, Site, database_of, folder_of, modes


def make_site(directory: Path, *, database: str = "", file_types: Path | None = None) -> Site:
    """Make a site, or complete one: configuration, its schemas for editors, folders, database with the newest schema.

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
        be made, the user is none of its operators, or another site of its catalogue has its name.
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
    site = Site(config, database_of(config))
    with ExitStack() as undo:
        undo.callback(site.close)
        act = Act.begin(site, "init")
        os.umask(config.access.umask)
        with _making(directory):
            _make_folders(site)
        site.database.create()
        with _making(directory):
            settle(config, site.database)
            _settle_modes(config)
        key = Key(site.signing_key)
        act.write(str(directory), lambda session: _catalogue(session, config, key.id, key.public))
        undo.pop_all()
    return site


def _make_folders(site: Site) -> None:
    """Make what a site keeps in folders, with the modes that its ``access`` says."""
    config = site.config
    _settle_modes(config)
    for folder in (config.scratch, config.spool, config.cache, site.private, config.directory / SCHEMAS):
        folder.mkdir(parents=True, exist_ok=True)
    for store in config.stores.values():
        if (its_own := folder_of(store)) is not None and not its_own.is_dir():
            its_own.mkdir(parents=True)
            its_own.chmod(store.access.folder_mode)
    if site.database.file is not None:
        site.database.file.touch()  # SQLite makes it, and what lies beside it, with a mode of its own
    if not site.signing_key.exists():
        make_key(site.signing_key)
    for kind in Kind:
        (config.directory / SCHEMAS / kind.file).write_text(schema_text(kind))
    _settle_modes(config)


def _catalogue(session: Session, config: SiteConfig, keyid: str, public_key: bytes) -> None:
    """Tell the catalogue of a site's stores and of its key, and make the indexes that it wants."""
    store_ids(session, config.stores)
    add_key(session, keyid, public_key, now=utc_now())
    index_keys(session, config.indexed)


@contextmanager
def _making(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestRefused(f"{error.filename or directory} cannot be made: {error.strerror}") from error


def _settle_modes(config: SiteConfig) -> None:
    for path, mode in modes(config):
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def _write_configuration(directory: Path, database: str, file_types: Path | None) -> None:
    """Write the configuration of a new site; nothing stays of one that is wrong."""
    types = directory / FILE_TYPES_FILE
    if file_types is not None:
        load_file_types([file_types])
        if types.exists():
            raise RequestRefused(f"{types} is there already", remedy="leave --file-types away, or remove that file")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", directory.name).strip("-_") or "site"
    texts = {
        types: (Kind.FILE_TYPES, file_types_text() if file_types is None else file_types.read_text()),
        directory / SITE_FILE: (Kind.SITE, site_text(name, database) if database else site_text(name)),
    }
    written = [path for path in texts if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in written:
        kind, text = texts[path]
        path.write_text(referring(text, f"{SCHEMAS}/{kind.file}"))
    try:
        load_site(directory)
    except ConfigError:
        for path in written:
            path.unlink()
        raise
