"""Which of the sites of a catalogue a site is: by a key in its own folder, whatever it is called and wherever it is.

The key stands in a file with the number that the file has on its disk (its inode). A copy of the folder has the key
with another number. It is refused, as two folders with one key would tell the catalogue different things of the same
stores; unless the catalogue is in the folder, and was copied with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

from nightmill.backbone.database import Database, safe_url
from nightmill.backbone.sites import claim, site_of
from nightmill.clock import utc_now
from nightmill.config.site import SITE_ID_FILE, SiteConfig
from nightmill.errors import RequestRefused


def identify(config: SiteConfig, database: Database) -> None:
    """Find out which site this is, and have the sessions of its database know. Writes nothing.

    Who may not read the site's key is taken at the word of nightmill.yaml.

    Raises
    ------
    RequestRefused
        Where the catalogue does not know it, or its folder was copied.
    """
    path = config.directory / SITE_ID_FILE
    try:
        key = _key_in(path, config, database)
    except PermissionError:
        key = ""
    with database.reading() as session:
        row = site_of(session, key=key, name=config.name) if key != "none" else None
    if row is None:
        raise RequestRefused(
            f"the catalogue {safe_url(database.url)} does not know site {config.name!r} of {config.directory}",
            remedy="run 'nightmill init' in the site's folder",
        )
    database.site_id = row.id


def settle(config: SiteConfig, database: Database) -> None:
    """Give a site its key, where it has none, and its place in the catalogue; then do as :func:`identify`.

    Raises
    ------
    RequestRefused
        Where another site of the catalogue has its name, or its folder was copied.
    """
    path = config.directory / SITE_ID_FILE
    if not path.exists():
        _make(path)
    key = _key_in(path, config, database)
    with path.open("r+") as file:  # the same file: it keeps its number
        file.write(f"{key} {path.stat().st_ino}\n")
        file.truncate()
    found = database.write(lambda session: claim(session, key=key, name=config.name, now=utc_now()))
    if isinstance(found, str):
        raise RequestRefused(
            f"the catalogue {safe_url(database.url)} has another site {config.name!r}: its key is {found}, and that of"
            f" {config.directory} is {key}",
            remedy="give one of them another name, 'site' in nightmill.yaml; or, where this is that very site and has"
            f" lost its key, write {found} into {path}; then run 'nightmill init' again",
        )
    database.site_id = found


def _make(path: Path) -> None:
    """Make a key; of two that are made at the same moment, the first counts."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.{token_hex(8)}")
    temporary.write_text(f"{token_hex(16)}\n")
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _key_in(path: Path, config: SiteConfig, database: Database) -> str:
    try:
        key, *number = path.read_text().split()
    except FileNotFoundError:
        return "none"
    except (ValueError, UnicodeDecodeError):
        raise RequestRefused(
            f"{path} does not hold the key of a site", remedy="bring it back; or remove it and run 'nightmill init'"
        ) from None
    goes_along = database.file is not None and config.directory in database.file.parents
    if number and number != [str(path.stat().st_ino)] and not goes_along:
        raise RequestRefused(
            f"the folder {config.directory} was copied, moved to another disk or brought back from a backup: two"
            f" folders may now have the key of site {config.name!r} in the catalogue {safe_url(database.url)}",
            remedy=f"where no other folder is that site, take the number after the key out of {path}; where this is to"
            " be a site of its own, remove that file, and give it another name and other stores in nightmill.yaml;"
            " then run 'nightmill init'",
        )
    return key
